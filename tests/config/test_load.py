"""The configuration: every YAML composes and loads, and what is wrong is said by name."""

import copy
import itertools
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.paths import CONF
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench import config
from cnnbench.config import Config
from cnnbench.config.fields import allowed_by, fields_of
from cnnbench.errors import ConfigError
from cnnbench.training.preflight import check

YAMLS = sorted(CONF.rglob("*.yaml"))
EXPERIMENTS = {
    path.relative_to(CONF / "experiment").with_suffix("").as_posix(): path
    for path in YAMLS
    if path.is_relative_to(CONF / "experiment")
}
SWEEPS = [name for name in EXPERIMENTS if "/" in name]  # the book's and the claims
CHOICES = [
    *(
        f"{path.parent.name}={path.stem}"
        for path in YAMLS
        if path.parent != CONF and path.relative_to(CONF).parts[0] not in ("hydra", "experiment")
    ),
    *(f"experiment={name}" for name in EXPERIMENTS),
]


MULTISTEP = {
    "name": "multistep",
    "milestones": [1.0],
    "gamma": 0.1,
    "warmup_epochs": 0.0,
    "warmup_ratio": None,
}
FOLDER = {"data__name": "folder", "data__path": "photos"}


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    """Hydra, set up as the command line does it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(*overrides: str) -> dict[str, Any]:
    return config.to_plain(compose("train", overrides=list(overrides)))


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_loads_and_comes_back_from_its_yaml(choice: str) -> None:
    needed = ["data.path=photos"] if choice in ("data=folder", "experiment=photos") else []
    chosen = config.load(composed(choice, *needed))
    assert config.load(config.parse(config.to_yaml(chosen))) == chosen


@pytest.mark.parametrize("group", ["model", "data", "augment", "optimizer", "scheduler", "device"])
def test_a_choice_is_named_like_its_file(group: str) -> None:
    files = sorted((CONF / group).glob("*.yaml"))
    assert [OmegaConf.load(path)["name"] for path in files] == [path.stem for path in files]


@pytest.mark.parametrize("group", ["augment", "device", "optimizer", "scheduler", "tracker"])
def test_there_is_a_yaml_for_each_name(group: str) -> None:
    hint = fields_of(Config)[group]
    names = allowed_by(fields_of(hint)["name"] if group in ("augment", "device") else hint).choices
    names = [*config.TRACKERS, "none"] if group == "tracker" else names
    assert {path.stem for path in (CONF / group).glob("*.yaml")} == set(names)


@pytest.mark.parametrize(
    "path", sorted((CONF / "augment").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_preset_of_augmentation_switches_on_what_it_is_named_after(path: Path) -> None:
    values = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(values, dict)
    switched_on = [key for key, value in values.items() if key != "name" and value]
    assert "_".join(switched_on) == ("" if path.stem == "none" else path.stem)


def test_presets_of_augmentation_are_combined_by_keys() -> None:
    augment = config.load(composed("augment=hflip_translate", "augment.cutout=8")).augment
    assert (augment.hflip, augment.translate, augment.cutout) == (True, 2, 8)


def trackers(*overrides: str) -> dict[str, Any]:
    """The trackers of a composed configuration, as a run records them."""
    return config.as_dict(config.load(composed(*overrides)))["tracker"]


def test_there_is_no_tracker_unless_asked_for() -> None:
    assert trackers() == {}


def test_several_trackers_are_chosen_as_a_list() -> None:
    both = trackers("tracker=[tensorboard,mlflow]")
    assert both == {**trackers("tracker=tensorboard"), **trackers("tracker=mlflow")}


def test_a_tracker_that_a_run_goes_on_with_is_that_of_its_yaml(
    plain_values: dict[str, Any],
) -> None:
    changed = config.apply_overrides(plain_values, {"tracker": ["tensorboard", "mlflow", "wandb"]})
    assert config.as_dict(changed)["tracker"] == trackers("tracker=[tensorboard,mlflow,wandb]")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"tracker": "none"}, {}),
        ({"tracker": "tensorboard"}, {"tensorboard": {}}),
        ({"tracker": "mlflow"}, {"mlflow": {"uri": None, "experiment": "cnnbench"}}),
        ({"tracker.mlflow.uri": "x"}, {"mlflow": {"uri": "x", "experiment": "mine"}}),
        (
            {"tracker.mlflow.uri": "x", "tracker": "mlflow"},
            {"mlflow": {"uri": "x", "experiment": "cnnbench"}},
        ),
    ],
    ids=str,
)
def test_the_trackers_of_a_run_that_goes_on_are_chosen_anew_or_changed(
    changes: dict[str, Any], expected: dict[str, Any], plain_values: dict[str, Any]
) -> None:
    recorded = {**plain_values, "tracker": {"mlflow": {"uri": "theirs", "experiment": "mine"}}}
    assert config.as_dict(config.apply_overrides(recorded, changes))["tracker"] == expected


@pytest.mark.parametrize(
    "choice", ["mlfow", None, ["mlflow", 7], [["mlflow"]], {"mlflow": 1}], ids=repr
)
def test_a_tracker_that_nobody_knows_is_refused_in_a_run_that_goes_on(
    choice: object, plain_values: dict[str, Any]
) -> None:
    with pytest.raises(
        ConfigError, match=r"tracker=.* is not known\..* Allowed: mlflow, none, tensorboard, wandb"
    ):
        config.apply_overrides(plain_values, {"tracker": choice})


@pytest.mark.parametrize(
    "tracker", [None, 7, "x", [1], {"mlflow": 7}, {"mlflow": []}, {"x": 1}], ids=repr
)
def test_recorded_trackers_that_are_none_are_refused(
    tracker: object, plain_values: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        config.apply_overrides({**plain_values, "tracker": tracker}, {"tracker.mlflow.uri": "x"})


def test_a_list_of_trackers_is_read_as_one() -> None:
    assert config.parse_changes(["tracker=[tensorboard,mlflow]"], config.RESUME_OVERRIDES, "") == {
        "tracker": ["tensorboard", "mlflow"]
    }


def test_a_configuration_that_names_no_trackers_has_none(values: dict[str, Any]) -> None:
    del values["tracker"]
    assert config.load(values).tracker == config.TrackerConfig()


def test_runs_that_differ_in_trackers_alone_are_the_same(plain_values: dict[str, Any]) -> None:
    tracked = {**plain_values, "tracker": {"tensorboard": {}}}
    config.require_same(Path("run"), {**plain_values, "sweep": "other"}, tracked)


def test_what_is_not_of_the_job_is_not_in_its_name() -> None:
    excluded = OmegaConf.load(CONF / "train.yaml").hydra.job.config.override_dirname.exclude_keys
    keys = config.KEYS | config.GROUPS
    assert set(excluded) == {key for key in keys if config.is_below(key, config.BOOKKEEPING_KEYS)}


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(CONF)))
def test_every_yaml_opens_with_what_it_is(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert re.match(r"# \w", lines[1] if lines[0].startswith("# @package") else lines[0])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_how_it_is_run(name: str) -> None:
    flag = "-m " if name in SWEEPS else ""
    path = " data.path=photos" if name == "photos" else ""
    assert f"#     cnnbench {flag}experiment={name}{path}\n" in EXPERIMENTS[name].read_text()


@pytest.mark.parametrize("name", SWEEPS)
def test_book_and_claims_repeat_over_three_seeds_and_select_nothing_on_the_test_set(
    name: str,
) -> None:
    settings = config.load(composed(f"experiment={name}"))
    assert (settings.data.name, settings.data.validation) == ("fashion_mnist", 0)
    assert OmegaConf.load(EXPERIMENTS[name]).hydra.sweeper.params.seed == "0,1,2"


@pytest.mark.parametrize("name", [name for name in SWEEPS if name.startswith("book/")])
def test_the_experiments_of_the_book_have_its_recipe(name: str) -> None:
    settings = config.load(composed(f"experiment={name}"))
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


def test_the_recipe_of_the_network_fills_the_other_groups() -> None:
    settings = config.load(composed("model=mlp"))
    recipe = settings.model.recipe
    taken = (
        settings.data.resize,
        settings.train.batch_size,
        settings.train.epochs,
        settings.optimizer.lr,
    )
    assert taken == (recipe.resize, recipe.batch_size, recipe.epochs, recipe.lr)


def test_what_a_constructor_takes_is_kept_apart_from_name_and_recipe() -> None:
    assert config.load(composed("model=alexnet", "model.dropout=0.25")).model.arguments == {
        "dropout": 0.25,
        "padding_mode": "zeros",
    }


@pytest.fixture(scope="module")
def plain_values() -> dict[str, Any]:
    """Every group with as many keys as it can have, as plain values."""
    chosen = composed("optimizer=rmsprop", "scheduler=step")
    return config.as_dict(config.load(chosen))


def test_a_configuration_comes_back_from_its_plain_values(plain_values: dict[str, Any]) -> None:
    assert config.as_dict(config.load(plain_values)) == plain_values


@pytest.fixture
def values(plain_values: dict[str, Any]) -> dict[str, Any]:
    return copy.deepcopy(plain_values)


def replaced(values: dict[str, Any], **by_key: object) -> dict[str, Any]:
    """The values with some changed; a key's dots are written as two underscores."""
    for key, value in by_key.items():
        *groups, last = key.split("__")
        node = values
        for group in groups:
            node = node[group]
        node[last] = value
    return values


@pytest.mark.parametrize(
    "root", ["1e5", "007", "true", "null", "~", "2024-01-01", "1:30", "a: b", "# c", "ü", ""]
)
def test_text_that_yaml_could_take_for_something_else_comes_back(
    root: str, values: dict[str, Any]
) -> None:
    settings = config.load(replaced(values, data__root=root))
    assert config.load(config.parse(config.to_yaml(settings))).data.root == root


OUT_OF_RANGE = {
    "at least 0": "seed=-1 data.validation=-1 data.validation=-0.1 augment.translate=-1 "
    "augment.cutout=-1 augment.mixup=-0.1 augment.cutmix=-0.1 train.l1=-0.1 "
    "optimizer.weight_decay=-0.1 scheduler.warmup_epochs=-1.0",
    "above 0": "train.grad_clip_norm=0.0 optimizer.lr=-1.0 optimizer.lr=0.0 optimizer.lr=nan "
    "optimizer.lr=inf optimizer.eps=0.0 scheduler.step_epochs=0.0",
    "at least 1": "data.resize=0 data.train_examples=0 data.test_examples=0 train.epochs=0 train.batch_size=0",
    "at least 0 and at most 1": "augment.random_erasing=-0.1 augment.random_erasing=1.5 "
    "train.label_smoothing=-0.1 train.label_smoothing=1.5 train.ema_decay=-0.1 train.ema_decay=1.1 "
    "optimizer.alpha=1.5 optimizer.momentum=-0.1 optimizer.momentum=2.0 scheduler.gamma=1.5",
    "at least 1 and at most 1024": "device.threads=0 device.threads=1000000",
    "at most 4096": "data.resize=5000",
    "finite": "augment.mixup=inf augment.cutmix=inf",
    "a share of them below 1": "data.validation=1.0 data.validation=nan",
    "a whole number of examples, or a share": "data.validation=x data.validation=True",
    "at most 27, with images of data.resize=28": "augment.translate=28",
    "at most 28, with images of data.resize=28": "augment.cutout=29",
}
CASES_OUT_OF_RANGE = [
    (override, allowed)
    for allowed, overrides in OUT_OF_RANGE.items()
    for override in overrides.split()
]


@pytest.mark.parametrize(("override", "allowed"), CASES_OUT_OF_RANGE)
def test_a_value_out_of_range_is_told_with_the_range(
    override: str, allowed: str, values: dict[str, Any]
) -> None:
    key, _, value = override.partition("=")
    with pytest.raises(
        ConfigError, match=re.escape(f"{override} is out of range") + f".*{allowed}"
    ):
        config.load(replaced(values, **{key.replace(".", "__"): value}))


ONECYCLE = {"name": "onecycle", "pct_start": 0.3, "div_factor": 25.0, "final_div_factor": 1e4}


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ({"name": "cosine", "min_lr_ratio": 1.5, "warmup_epochs": 0.0}, r"\.min_lr_ratio=1\.5"),
        (MULTISTEP | {"milestones": [0.0]}, r"scheduler\.milestones=0\.0 is out of range"),
        (
            MULTISTEP | {"milestones": [1.0, float("nan")]},
            r"scheduler\.milestones=nan is out of range",
        ),
        (MULTISTEP | {"gamma": 1.5}, r"scheduler\.gamma=1\.5"),
        (MULTISTEP | {"warmup_ratio": 1.5}, r"scheduler\.warmup_ratio=1\.5"),
        (MULTISTEP | {"warmup_epochs": -1.0}, r"scheduler\.warmup_epochs=-1\.0"),
        (ONECYCLE | {"pct_start": 1.5}, r"pct_start=1\.5"),
        (ONECYCLE | {"div_factor": 0.0}, r"\.div_factor=0"),
        (ONECYCLE | {"final_div_factor": 0.0}, "final_div_factor=0"),
    ],
)
def test_the_range_of_each_schedules_own_keys_is_checked(
    scheduler: dict[str, Any], message: str, values: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(replaced(values, scheduler=scheduler))


@pytest.mark.parametrize(
    "betas", [[0.9], [0.9, 0.99, 0.999], [0.9, 1.0], [-0.1, 0.9], [0.9, float("nan")]], ids=repr
)
def test_betas_are_two_numbers_below_one(betas: list[float], values: dict[str, Any]) -> None:
    adam = {"name": "adam", "lr": 0.001, "betas": betas, "eps": 1e-8, "weight_decay": 0.0}
    with pytest.raises(ConfigError, match=r"optimizer\.betas=.* must be two numbers"):
        config.load(replaced(values, optimizer=adam))


def test_nesterov_needs_a_momentum(values: dict[str, Any]) -> None:
    nesterov = {"name": "nesterov", "lr": 0.1, "momentum": 0.0, "weight_decay": 0.0}
    with pytest.raises(ConfigError, match=r"optimizer\.momentum=0\.0 is out of range"):
        config.load(replaced(values, optimizer=nesterov))


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2**63 - 1, "train__label_smoothing": 1.0, "augment__cutmix": 1.0},
        {"optimizer__momentum": 0.0, "augment__translate": 27, "augment__cutout": 28},
        {"optimizer__momentum": 1.0, "augment__random_erasing": 1.0, "augment__mixup": 0.2},
        {"data__train_examples": 1, "train__l1": 1},
        {"device__threads": "auto", "device__channels_last": "auto", "data__validation": 0.5},
        {"device__threads": 1, "device__channels_last": True, "data__validation": 0.0},
        {"data__folds": 2, "data__fold": 1},
        FOLDER,
        {**FOLDER, "data__channels": 3, "data__image_size": 1},
        {"train__fail_if_not_learning": True, "train__epochs": 2},
        {"train__grad_clip_norm": 0.1, "train__ema_decay": 0.0, "train__tta": "hflip"},
        {"device__compile": True, "device__cuda_graphs": False},
    ],
    ids=str,
)
def test_the_ends_of_the_ranges_are_allowed(
    changes: dict[str, object], values: dict[str, Any]
) -> None:
    assert isinstance(config.load(replaced(values, **changes)), Config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__folds": 5}, "data.folds=5 data.fold=0"),
        ({"data__fold": 0}, "data.folds=5 data.fold=0"),
        ({"data__folds": 1, "data__fold": 0}, "data.folds=1 is out of range"),
        ({"data__folds": 5, "data__fold": 5}, "data.fold=5 is out of range.*at most 4"),
        ({"data__folds": 5, "data__fold": -1}, "data.fold=-1 is out of range"),
        (
            {"data__path": "photos"},
            "data.path=photos is for data=folder, not for data=fashion_mnist",
        ),
        ({"data__image_size": 32}, "data.image_size=32 is for data=folder"),
        ({"data__channels": 3}, "data.channels=3 is for data=folder"),
        ({"data__name": "folder"}, "data=folder needs data.path=DIR"),
        ({"data__name": "folder", "data__path": ""}, "data=folder needs data.path=DIR"),
        ({**FOLDER, "data__root": "cache"}, "data.root=cache is for data sets that are fetched"),
        (
            {**FOLDER, "data__channels": 2},
            "data.channels=2 is not known. Allowed: 1 for gray, 3 for color",
        ),
        ({**FOLDER, "data__image_size": 0}, "data.image_size=0 is out of range"),
        (
            {"augment__mixup": 0.2, "augment__cutmix": 1.0},
            "mixup=0.2 and augment.cutmix=1.0 .* Set augment.mixup=0 or",
        ),
        ({"train__ema_decay": 1.0}, "ema_decay=1 keeps the initial weights"),
        (
            {"train__label_smoothing": 0.1, "train__loss": "mse"},
            "label_smoothing=0.1 is for .*cross_entropy, not mse",
        ),
        (
            {"train__label_smoothing": 0.1, "train__loss": "nll"},
            "label_smoothing=0.1 is for .*cross_entropy, not nll",
        ),
        (
            {"train__fail_if_not_learning": True, "train__epochs": 1},
            "fail_if_not_learning=true .* train.epochs=2",
        ),
    ],
    ids=str,
)
def test_keys_that_do_not_go_together_are_refused(
    changes: dict[str, object], message: str, values: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=message):
        config.load(replaced(values, **changes))


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("augment.name=non", "none"),
        ("device.name=cudo", "cuda"),
        ("device.precision=fp23", "fp32"),
        ("optimizer.name=adamm", "adam"),
        ("scheduler.name=cosinus", "cosine"),
        ("train.init=kaiming", "kaiming_normal"),
        ("train.init=he", "kaiming_normal"),
        ("train.init=glorot", "xavier_uniform"),
        ("device.name=GPU", "cuda"),
        ("device.precision=half", "fp16"),
        ("train.loss=cross_entropie", "cross_entropy"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(
    override: str, suggestion: str, values: dict[str, Any]
) -> None:
    key, _, value = override.partition("=")
    with pytest.raises(ConfigError, match=f"{override} is not known. .*'{suggestion}'"):
        config.load(replaced(values, **{key.replace(".", "__"): value}))


NO_AUTO = "is not known. Allowed: .* or auto"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("device__channels_last", "maybe", f"=maybe {NO_AUTO}"),
        ("device__cuda_graphs", "maybe", f"=maybe {NO_AUTO}"),
        ("device__threads", "many", f"=many {NO_AUTO}"),
        ("device__channels_last", 1, f"=1 {NO_AUTO}"),
        ("device__threads", 1.5, f"=1.5 {NO_AUTO}"),
        ("device__threads", True, f"=true {NO_AUTO}"),
        ("train__epochs", "many", r"=many is not a whole number\.$"),
        ("train__epochs", 2.5, r"=2\.5 is not a whole number\.$"),
        ("train__epochs", 1e3, r"=1000\.0 is not a whole number\. Write train\.epochs=1000\.$"),
        ("train__epochs", True, "=true is not a whole number"),
        ("train__epochs", "9" * 5000, r"=9{80}\.\.\. is not a whole number\.$"),
        ("seed", "x", "=x is not a whole number"),
        ("train__fail_if_not_learning", "perhaps", "=perhaps is not true or false"),
        (
            "train__checkpoint_every",
            3,
            r"=3: .* is a group of keys\. Set one, such as train\.checkpoint_every\.epochs=",
        ),
        ("optimizer__lr", "fast", "=fast is not a number"),
        ("optimizer__lr", [0.1], r"=\[0\.1\] is not a number"),
        ("optimizer__lr", {"a": None}, '={"a": null} is not a number'),
        ("scheduler__gamma", "x", "=x is not a number"),
        ("model__recipe__lr", "x", "=x is not a number"),
        *((key, None, ": ") for key in ("seed", "data__name", "model__name", "model__recipe__lr")),
    ],
)
def test_a_value_of_the_wrong_type_is_told_with_its_key(
    key: str, value: object, message: str, values: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(key.replace('__', '.'))}{message}"):
        config.load(replaced(values, **{key: value}))


def test_bytes_that_are_no_text_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        config.load(replaced(values, train__epochs="\udcff"))


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        *(("sed", "seed"), ("data.reseize", "data.resize"), ("augment.nam", "augment.name")),
        *(("device.thread", "device.threads"), ("model.recipe.resise", "model.recipe.resize")),
        *(("train.epoch", "train.epochs"), ("train.Batch-Size", "train.batch_size")),
        ("optimizer.momentun", "optimizer.momentum"),
        ("scheduler.warmup_epoch", "scheduler.warmup_epochs"),
        *(("epoch", "train.epochs"), ("learning_rate", "optimizer.lr")),
        ("train.lr", "optimizer.lr"),
    ],
)
def test_a_key_that_nobody_knows_is_answered_with_the_nearest(
    key: str, suggestion: str, values: dict[str, Any]
) -> None:
    values = replaced(values, **{key.replace(".", "__"): 1})
    with pytest.raises(
        ConfigError, match=rf"There is no key '{key}'\. Did you mean '{suggestion}'\?"
    ):
        config.load(values)


def test_a_key_that_hydra_was_made_to_add_is_unknown_too() -> None:
    with pytest.raises(ConfigError, match=r"There is no key 'train\.epoch'"):
        config.load(composed("+train.epoch=3"))


@pytest.mark.parametrize("key", ["in_channels", "num_classes", "image_size"])
def test_what_the_data_decide_cannot_be_given_to_the_network(key: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.{key}"):
        check(config.load(composed("device=cpu", f"+model.{key}=3")))


def test_a_key_of_another_optimizer_is_unknown(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"There is no key 'optimizer\.betas'\..*Allowed: alpha"):
        config.load(replaced(values, optimizer__betas=[0.9, 0.999]))


@pytest.mark.parametrize("key", ["optimizer.lr", "scheduler.gamma", "train.epochs", "train"])
def test_a_missing_key_or_group_is_asked_for(key: str, values: dict[str, Any]) -> None:
    group, _, name = key.partition(".")
    del (values[group] if name else values)[name or group]
    with pytest.raises(ConfigError, match=rf"{key}\S* has no value\. Set {key}\S*="):
        config.load(values)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=many", r"train\.epochs=many is not a whole number\."),
        ("train.l1=much", r"train\.l1=much is not a number\."),
        ("seed=1.5", r"seed=1\.5 is not a whole number\."),
    ],
)
def test_a_wrong_type_is_explained_in_words(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        config.load(composed(override))


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("train.epoch=3", "There is no key 'train.epoch'. Did you mean 'train.epochs'? Allowed: "),
        (
            "optimizer.lrr=3",
            "There is no key 'optimizer.lrr'. Did you mean 'optimizer.lr'? Allowed: lr, momentum, ",
        ),
    ],
)
def test_a_mistyped_key_is_explained_with_the_nearest(override: str, told: str) -> None:
    with pytest.raises(ConfigCompositionException) as raised:
        composed(override)
    assert isinstance(raised.value.__cause__, OmegaConfBaseException)
    assert config.explain_omegaconf(raised.value.__cause__).startswith(told)


def test_the_group_goes_before_the_key_in_an_explanation() -> None:
    with pytest.raises(ConfigError, match=r"^model\.recipe\.resize has no value"):
        config.from_dict(config.Recipe, {}, "model.recipe")


def test_an_interpolation_of_nothing_is_told_with_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^data\.resize: .*model\.no_such_key"):
        composed("data.resize=${model.no_such_key}")


def test_a_value_that_a_yaml_leaves_open_is_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"^data\.root has no value\. Set data\.root="):
        composed("data.root=???")


def test_keys_that_are_for_some_data_alone_may_be_left_out(values: dict[str, Any]) -> None:
    for key in ("path", "image_size", "channels"):
        del values["data"][key]
    assert config.load(values).data.path is None


def test_a_configuration_of_version_0_1_is_refused_by_that_name(values: dict[str, Any]) -> None:
    values["train"]["clip_norm"] = values["train"].pop("grad_clip_norm")
    with pytest.raises(
        ConfigError, match=r"made by cnnbench 0\.1.* Train anew, or use cnnbench 0\.1"
    ):
        config.load(values)


@pytest.mark.parametrize(
    ("key", "given", "expected"),
    [
        *(("train__epochs", "05", 5), ("optimizer__lr", "1e-3", 0.001), ("optimizer__lr", 1, 1.0)),
        *(("device__compile", "on", True), ("device__compile", 0, False), ("sweep", 2024, "2024")),
        *(
            ("device__threads", "2", 2),
            ("data__validation", "0.5", 0.5),
            ("data__root", 1.5, "1.5"),
        ),
        ("device__cuda_graphs", "off", False),
        ("train__checkpoint_every__minutes", "3", 3.0),
    ],
)
def test_scalars_are_read_as_the_type_of_their_key(
    key: str, given: object, expected: object, values: dict[str, Any]
) -> None:
    settings: Any = config.load(replaced(values, **{key: given}))
    for name in key.split("__"):
        settings = getattr(settings, name)
    assert (type(settings), settings) == (type(expected), expected)


def test_the_milestones_of_a_schedule_are_read_as_numbers(values: dict[str, Any]) -> None:
    settings = config.load(replaced(values, scheduler=MULTISTEP | {"milestones": ["03", 5]}))
    assert isinstance(settings.scheduler, config.MultiStepConfig)
    assert settings.scheduler.milestones == [3.0, 5.0]


def test_a_configuration_can_be_pickled_and_not_be_changed(values: dict[str, Any]) -> None:
    settings = config.load(values)
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(AttributeError):
        settings.train.epochs = 7  # type: ignore[misc]


def test_another_choice_of_a_group_leaves_nothing_of_the_one_before(values: dict[str, Any]) -> None:
    photos = replaced(values, **FOLDER, data__channels=3, data__image_size=64)
    changes = config.expand_groups({"data": "mnist", "data.resize": 28}, CONF)
    data = config.apply_overrides(photos, changes).data
    assert (data.name, data.path, data.image_size, data.channels) == ("mnist", None, None, None)


def test_of_another_choice_every_key_of_its_yaml_counts(values: dict[str, Any]) -> None:
    changes = config.expand_groups({"data": "folder", "data.path": "photos"}, CONF)
    data = config.apply_overrides(
        replaced(values, data__root="mine", data__validation=7), changes
    ).data
    assert (data.name, data.root, data.validation, data.image_size) == ("folder", None, 0.1, 28)


def test_the_time_in_a_configuration_is_one() -> None:
    times = itertools.count()
    OmegaConf.register_new_resolver("tests_now", lambda: next(times), use_cache=True, replace=True)
    composed = OmegaConf.create(
        {"sweep": "${tests_now:}", "seed": 1, "hydra": {"sweep": {"dir": "${sweep}"}}}
    )
    assert composed.hydra.sweep.dir == 0
    assert config.to_plain(composed) == {"sweep": 0, "seed": 1}
