"""The metrics of an evaluation, compared with scikit-learn and worked examples."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from cnnbench.analysis.metrics import Evaluation, compute_metrics, wilson_interval
from cnnbench.commands.evaluate import format_metrics


def metrics_of(
    logits: torch.Tensor, labels: torch.Tensor, topk: tuple[int, ...] = (2,)
) -> Evaluation:
    classes = [f"class {index}" for index in range(logits.shape[1])]
    return compute_metrics(logits, labels, 0.5, classes, topk)


Predictions = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def predictions() -> Predictions:
    """Return logits (500, 6), mostly correct, and labels of all classes but the last."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(5, (500,), generator=generator)
    logits = torch.randn(500, 6, generator=generator)
    logits[torch.arange(500), labels] += 1.5
    return logits, labels


def test_precision_recall_and_f1_match_scikit_learn(predictions: Predictions) -> None:
    logits, labels = predictions
    expected = metrics.precision_recall_fscore_support(
        labels, logits.argmax(1), labels=range(6), zero_division=math.nan
    )
    classes = metrics_of(*predictions).classes
    for ours, theirs in zip(classes, zip(*expected, strict=True), strict=True):
        values = (ours.precision, ours.recall, ours.f1, ours.support)
        mine = [math.nan if value is None else value for value in values]
        assert mine == pytest.approx(list(theirs), nan_ok=True)


def test_confusion_matrix_matches_scikit_learn(predictions: Predictions) -> None:
    logits, labels = predictions
    expected = metrics.confusion_matrix(labels, logits.argmax(1), labels=range(6))
    assert metrics_of(*predictions).confusion == expected.tolist()


@pytest.mark.parametrize("k", [1, 2, 4])
def test_topk_accuracy_matches_scikit_learn(predictions: Predictions, k: int) -> None:
    logits, labels = predictions
    expected = metrics.top_k_accuracy_score(labels, logits, k=k, labels=range(6))
    result = metrics_of(*predictions, topk=(1, 2, 4))
    assert result.topk_accuracy[k] == pytest.approx(expected)


def test_topk_of_all_classes_is_left_out(predictions: Predictions) -> None:
    assert metrics_of(*predictions, topk=(2, 6, 50)).topk_accuracy.keys() == {2}


def test_class_without_examples_or_predictions_has_no_metrics() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    (_, _, last) = metrics_of(logits, torch.tensor([0, 1])).classes
    assert (last.precision, last.recall, last.f1, last.support) == (None, None, None, 0)


def test_macro_mean_counts_undefined_precision_as_zero() -> None:
    result = metrics_of(torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]), torch.tensor([0, 1]))
    expected = metrics.precision_recall_fscore_support(
        [0, 1], [0, 0], average="macro", zero_division=0
    )[:3]
    assert list(result.macro_mean.values()) == pytest.approx(list(expected))


def test_balanced_accuracy_matches_scikit_learn(predictions: Predictions) -> None:
    logits, labels = predictions
    result = metrics_of(logits, labels)
    with pytest.warns(UserWarning, match="y_pred contains classes not in y_true"):
        expected = metrics.balanced_accuracy_score(labels, logits.argmax(1))
    assert result.balanced_accuracy == pytest.approx(expected)


def test_balanced_accuracy_of_always_the_largest_class_is_chance() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, 0.0]]).repeat(10, 1)
    labels = torch.tensor([0] * 8 + [1, 2])  # of class 3 are no examples
    result = metrics_of(logits, labels)
    assert (result.accuracy, result.balanced_accuracy) == (0.8, pytest.approx(1 / 3))
    shown = format_metrics(result)
    assert "accuracy           0.8000  95 % interval" in shown
    assert "balanced accuracy  0.3333  each class counts alike" in shown


def test_calibration_error_matches_worked_example() -> None:
    # Two of three predictions with confidence 0.9 are correct, and one of one with 0.6.
    odds = math.log(0.9 / 0.1), math.log(0.6 / 0.4)
    logits = torch.tensor([[odds[0], 0.0], [odds[0], 0.0], [odds[0], 0.0], [odds[1], 0.0]])
    expected = 3 / 4 * abs(2 / 3 - 0.9) + 1 / 4 * abs(1 - 0.6)
    result = metrics_of(logits, torch.tensor([0, 0, 1, 0]))
    assert result.expected_calibration_error == pytest.approx(expected, abs=1e-6)


def test_calibration_error_of_certain_correct_predictions_is_zero() -> None:
    assert metrics_of(torch.eye(4) * 1e4, torch.arange(4)).expected_calibration_error == 0


def test_wilson_interval_matches_newcombe() -> None:
    # Newcombe 1998, table I
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


@given(st.integers(1, 100_000), st.data())
def test_wilson_interval_contains_share_within_0_and_1(count: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, count))
    low, high = wilson_interval(correct, count)
    assert 0 <= low <= correct / count <= high <= 1


def test_accuracy_uses_logits_not_probabilities() -> None:
    logits = torch.tensor([[3e5, -3e5], [3e5, 3e5 - 1]])
    assert metrics_of(logits, torch.tensor([0, 0])).accuracy == 1


def test_most_confused_sorts_by_count_without_correct_predictions() -> None:
    predicted = torch.tensor([0, 0, 0, 1, 1, 2])
    labels = torch.tensor([0, 0, 0, 2, 2, 1])
    result = metrics_of(torch.nn.functional.one_hot(predicted).float(), labels)
    assert result.most_confused() == [("class 2", "class 1", 2), ("class 1", "class 2", 1)]


def test_table_shows_dash_for_undefined_metrics() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    table = format_metrics(metrics_of(logits, torch.tensor([0, 1])))
    (row,) = (line.split() for line in table.splitlines() if line.startswith("class 2"))
    assert row == ["class", "2", "-", "-", "-", "0"]
