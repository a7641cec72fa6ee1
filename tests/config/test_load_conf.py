"""Every YAML file in conf/ composes and loads, and is documented."""

import re
from pathlib import Path

import pytest
from helpers.config_values import compose_values
from helpers.paths import CONF
from omegaconf import OmegaConf

from cnnbench import config

YAMLS = sorted(CONF.rglob("*.yaml"))


EXPERIMENTS = {
    path.relative_to(CONF / "experiment").with_suffix("").as_posix(): path
    for path in YAMLS
    if path.is_relative_to(CONF / "experiment")
}


# the experiments in folders, of which each is a sweep over seeds, but for the speedruns
SWEEPS = [name for name in EXPERIMENTS if "/" in name and not name.startswith("speedrun/")]


CHOICES = [
    *(
        f"{path.parent.name}={path.stem}"
        for path in YAMLS
        if path.parent != CONF and path.relative_to(CONF).parts[0] not in ("hydra", "experiment")
    ),
    *(f"experiment={name}" for name in EXPERIMENTS),
]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_survives_a_round_trip_through_yaml(choice: str) -> None:
    needed = ["data.path=photos"] if choice in ("data=folder", "experiment=photos") else []
    chosen = config.load_config(compose_values(choice, *needed))
    assert config.load_config(config.parse(config.to_yaml(chosen))) == chosen


@pytest.mark.parametrize("group", ["model", "data", "augment", "optimizer", "scheduler", "device"])
def test_each_choice_has_the_name_of_its_file(group: str) -> None:
    files = sorted((CONF / group).glob("*.yaml"))
    assert [OmegaConf.load(path)["name"] for path in files] == [path.stem for path in files]


@pytest.mark.parametrize(
    "path", sorted((CONF / "augment").glob("*.yaml")), ids=lambda path: path.stem
)
def test_augmentation_preset_turns_on_the_augmentations_in_its_name(path: Path) -> None:
    values = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(values, dict)
    switched_on = [key for key, value in values.items() if key != "name" and value]
    assert "_".join(switched_on) == ("" if path.stem == "none" else path.stem)


def test_keys_add_augmentations_to_a_preset() -> None:
    augment = config.load_config(
        compose_values("augment=hflip_translate", "augment.cutout=8")
    ).augment
    assert (augment.hflip, augment.translate, augment.cutout) == (True, 2, 8)


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(CONF)))
def test_every_yaml_begins_with_a_comment(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert re.match(r"# \w", lines[1] if lines[0].startswith("# @package") else lines[0])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_documents_its_command(name: str) -> None:
    flag = "-m " if name in SWEEPS else ""
    path = " data.path=photos" if name == "photos" else ""
    assert f"#     cnnbench {flag}experiment={name}{path}\n" in EXPERIMENTS[name].read_text()


TEN_SEEDS = ("book/lenet", "book/bn_lenet", "claims/relu_lenet", "claims/last_batch")


@pytest.mark.parametrize("name", SWEEPS)
def test_book_and_claims_have_three_or_ten_seeds_and_no_validation_set(
    name: str,
) -> None:
    settings = config.load_config(compose_values(f"experiment={name}"))
    assert (settings.data.name, settings.data.validation) == ("fashion_mnist", 0)
    number = 10 if name in TEN_SEEDS else 3
    seeds = ",".join(map(str, range(number)))
    assert OmegaConf.load(EXPERIMENTS[name]).hydra.sweeper.params.seed == seeds


@pytest.mark.parametrize("name", [name for name in SWEEPS if name.startswith("book/")])
def test_book_experiments_have_the_recipe_of_the_book(name: str) -> None:
    settings = config.load_config(compose_values(f"experiment={name}"))
    assert settings.train.last_batch == "full"  # as in the book's loop
    recipe, optimizer = settings.model.recipe, settings.optimizer
    assert isinstance(optimizer, config.SgdConfig)
    taken = (
        settings.data.resize,
        settings.train.batch_size,
        settings.train.epochs,
        optimizer.lr,
        optimizer.momentum,
    )
    assert taken == (recipe.resize, recipe.batch_size, 10, recipe.lr, 0.0)
    assert settings.train.init == "xavier_uniform"


def test_recipe_of_the_network_sets_defaults_of_other_groups() -> None:
    settings = config.load_config(compose_values("model=mlp"))
    recipe = settings.model.recipe
    taken = (
        settings.data.resize,
        settings.train.batch_size,
        settings.train.epochs,
        settings.optimizer.lr,
    )
    assert taken == (recipe.resize, recipe.batch_size, recipe.epochs, recipe.lr)


def test_recipe_of_the_notes_leaves_pixels_from_0_to_1() -> None:
    settings = config.load_config(compose_values("experiment=lenet_relu_notes"))
    assert (settings.data.normalize, settings.data.validation) == (False, 0)
    train, optimizer = settings.train, settings.optimizer
    assert (train.epochs, train.batch_size, optimizer.lr) == (7, 256, 0.95)
