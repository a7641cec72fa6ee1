"""Errors in composed configurations are explained in plain words."""

import itertools

import pytest
from helpers.config_values import compose_values
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cnnbench import config
from cnnbench.errors import ConfigError


def test_key_added_with_plus_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"There is no key 'train\.epoch'"):
        config.load_config(compose_values("+train.epoch=3"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=many", r"train\.epochs=many is not a whole number\."),
        ("train.l1=much", r"train\.l1=much is not a number\."),
        ("seed=1.5", r"seed=1\.5 is not a whole number\."),
    ],
)
def test_wrong_type_is_explained(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        config.load_config(compose_values(override))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "There is no key 'train.epoch'. Did you mean 'train.epochs'? Allowed: "),
        (
            "optimizer.lrr=3",
            "There is no key 'optimizer.lrr'. Did you mean 'optimizer.lr'? Allowed: lr, momentum, ",
        ),
    ],
)
def test_mistyped_key_suggests_the_nearest(override: str, message: str) -> None:
    with pytest.raises(ConfigCompositionException) as raised:
        compose_values(override)
    assert isinstance(raised.value.__cause__, OmegaConfBaseException)
    assert config.explain_omegaconf(raised.value.__cause__).startswith(message)


def test_unresolvable_interpolation_is_reported_with_its_key() -> None:
    with pytest.raises(ConfigError, match=r"^data\.resize: .*model\.no_such_key"):
        compose_values("data.resize=${model.no_such_key}")


def test_missing_mandatory_value_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"^data\.root has no value\. Set data\.root="):
        compose_values("data.root=???")


def test_time_in_a_configuration_is_resolved_once() -> None:
    times = itertools.count()
    OmegaConf.register_new_resolver("tests_now", lambda: next(times), use_cache=True, replace=True)
    composed = OmegaConf.create(
        {"sweep": "${tests_now:}", "seed": 1, "hydra": {"sweep": {"dir": "${sweep}"}}}
    )
    assert composed.hydra.sweep.dir == 0
    assert config.to_plain(composed) == {"sweep": 0, "seed": 1}
