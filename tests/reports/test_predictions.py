"""Predictions as a table, as JSON and as CSV."""

import json

from cnnbench.reports.predictions import BLOCK, Prediction, as_csv, as_json, as_table

SHIRT = Prediction(
    "shirt.png", [("Shirt", 0.75), ("T-shirt/top", 0.125), ("Coat", 0.0625)], looks_inverted=True
)
TEXT = Prediction("a, b.png", [], error="a, b.png is not a PNG or JPEG image.")
BAG = Prediction("photos/bag.jpeg", [("Bag", 1.0), ("Coat", 0.0), ("Shirt", 0.0)])
HOSTILE = Prediction("\x1b[2J\udcff\n.png", [("\x1b[31mred\n", 1.0)])
NAMES = ["T-shirt/top", "Shirt", "Coat", "Bag"]


def test_table_has_row_for_each_classified_image() -> None:
    assert list(as_table([SHIRT, TEXT, BAG], NAMES)) == [
        "image            class        probability  then",
        "shirt.png        Shirt             0.7500  T-shirt/top 0.1250, Coat 0.0625",
        "photos/bag.jpeg  Bag               1.0000  Coat 0.0000, Shirt 0.0000",
    ]


def test_table_of_one_class_ends_with_probability() -> None:
    assert list(as_table([Prediction("a", [("Bag", 0.5)])], ["Bag"])) == [
        "image  class  probability",
        "a      Bag         0.5000",
    ]


def test_empty_table_has_no_header() -> None:
    assert list(as_table([TEXT], NAMES)) == []


def test_long_table_has_one_header_and_is_streamed() -> None:
    waiting = iter([SHIRT] * (2 * BLOCK))
    lines = as_table(waiting, NAMES)
    assert next(lines).startswith("image")
    assert len(list(waiting)) == BLOCK
    assert len(list(lines)) == BLOCK


def test_json_is_one_array_of_objects() -> None:
    lines = list(as_json([SHIRT, TEXT]))
    assert len(lines) == 4
    assert json.loads("\n".join(lines)) == [
        {
            "image": "shirt.png",
            "class": "Shirt",
            "probability": 0.75,
            "classes": {"Shirt": 0.75, "T-shirt/top": 0.125, "Coat": 0.0625},
            "looks_inverted": True,
        },
        {"image": "a, b.png", "error": "a, b.png is not a PNG or JPEG image."},
    ]


def test_csv_has_columns_for_top_classes_and_every_digit() -> None:
    third = Prediction("a.png", [("Bag", 1 / 3)])
    assert list(as_csv([third, TEXT], 1)) == [
        "image,class,probability,looks_inverted,error",
        "a.png,Bag,0.3333333333333333,false,",
        '"a, b.png",,,,"a, b.png is not a PNG or JPEG image."',
    ]
    assert list(as_csv([SHIRT, TEXT], 3)) == [
        "image,class,probability,class_2,probability_2,class_3,probability_3,looks_inverted,error",
        "shirt.png,Shirt,0.75,T-shirt/top,0.125,Coat,0.0625,true,",
        '"a, b.png",,,,,,,,"a, b.png is not a PNG or JPEG image."',
    ]


def test_predictions_contain_no_terminal_control_characters() -> None:
    lines = [*as_table([HOSTILE], ["\x1b[31mred\n"]), *as_json([HOSTILE]), *as_csv([HOSTILE], 1)]
    assert all(line.isprintable() for line in lines)
    assert json.loads("".join(as_json([HOSTILE])))[0]["image"] == HOSTILE.image
