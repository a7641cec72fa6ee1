"""ComposeOnce composes the same jobs as Hydra."""

import pickle
from collections.abc import Iterator

import hydra
import pytest
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf

from cnnbench import config
from cnnbench.cli.hydra_app import conf_folder
from cnnbench.sweeps import compose_once
from cnnbench.sweeps.compose_once import ComposeOnce

JOBS = {
    "values": ["seed=3", "optimizer.lr=0.1", "train.l1=1e-3"],
    "texts": ['sweep="a b"', "data.root='x=y, z'", "train.loss=hinge"],
    "null, a list and a reference": ["data.resize=null", "tracker=[]", "train.epochs=${seed}"],
    "choices": ["model=vgg11", "optimizer=adamw", "experiment=smoke"],
    "choices and values in them": [
        "optimizer=sgd",
        "optimizer.momentum=0.5",
        "model=resnet18",
        "model.recipe.lr=1",
    ],
    "several choices of a group": ["tracker=[tensorboard,mlflow]", "seed=1"],
    "an added key": ["+model.width=2", "seed=1"],
    "an added choice": ["+optimizer@other=sgd", "seed=1"],
    "a deleted key": ["~train.l1", "seed=1"],
    "a key excluded from names": ["sweep=a", "tracker=tensorboard", "seed=1"],
    "the last of several": ["seed=1", "seed=2"],
    "none": [],
}


@pytest.fixture
def loader() -> Iterator[ConfigLoader]:
    setup_globals()
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


@pytest.fixture
def shared(loader: ConfigLoader) -> DictConfig:
    words = ["hydra.verbose=true", "hydra.job.config.override_dirname.item_sep=+"]
    composed = hydra.compose("train", words, return_hydra_config=True)
    assert composed.sweep  # resolve the time once, as for the jobs of a sweep
    return composed


@pytest.mark.parametrize("overrides", JOBS.values(), ids=JOBS)
def test_job_equals_that_of_hydra(
    loader: ConfigLoader, shared: DictConfig, overrides: list[str]
) -> None:
    quick = ComposeOnce(loader)
    expected = loader.load_sweep_config(shared, overrides)
    for _ in range(2):
        composed = quick.load_sweep_config(shared, overrides)
        assert OmegaConf.to_yaml(composed) == OmegaConf.to_yaml(expected)
        assert config.to_plain(composed) == config.to_plain(expected)
        assert composed.hydra.sweep.subdir == expected.hydra.sweep.subdir
        composed.seed = 99  # must not affect the next job


def test_jobs_with_the_same_choices_are_composed_once(
    loader: ConfigLoader, shared: DictConfig
) -> None:
    quick = ComposeOnce(loader)
    for seed in range(3):
        for model in ("lenet", "nin"):
            quick.load_sweep_config(shared, [f"model={model}", f"seed={seed}"])
    assert len(quick.composed) == 2


def test_number_of_kept_configurations_is_limited(
    loader: ConfigLoader, shared: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose_once, "MAX_COMPOSED", 2)
    quick = ComposeOnce(loader)
    for model in ("lenet", "nin", "vgg11"):
        assert quick.load_sweep_config(shared, [f"model={model}"]).model.name == model
    assert len(quick.composed) == 1


@pytest.mark.parametrize(
    "wrong", ["optimizer.nothing=1", "model=nothing", "nothing=1", "seed.x=1", "+seed=1"]
)
def test_errors_equal_those_of_hydra(loader: ConfigLoader, shared: DictConfig, wrong: str) -> None:
    messages = []
    for composer in (loader, ComposeOnce(loader)):
        with pytest.raises(ConfigCompositionException) as caught:
            composer.load_sweep_config(shared, ["seed=1", wrong])
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_pickled_loader_has_no_composed_configurations(
    loader: ConfigLoader, shared: DictConfig
) -> None:
    quick = ComposeOnce(loader)
    quick.load_sweep_config(shared, ["seed=1"])
    sent = pickle.loads(pickle.dumps(quick))
    assert sent.composed == {}
    assert sent.load_sweep_config(shared, ["seed=2"]).seed == 2
