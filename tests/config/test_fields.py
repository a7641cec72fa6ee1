"""The keys and values that the types of the schema allow."""

import pytest
from helpers.paths import CONF

from cnnbench import config
from cnnbench.config import Config
from cnnbench.config.fields import allowed_by, fields_of


@pytest.mark.parametrize("group", ["augment", "device", "optimizer", "scheduler", "tracker"])
def test_each_allowed_name_has_a_yaml(group: str) -> None:
    hint = fields_of(Config)[group]
    names = allowed_by(fields_of(hint)["name"] if group in ("augment", "device") else hint).choices
    names = [*config.TRACKERS, "none"] if group == "tracker" else names
    assert {path.stem for path in (CONF / group).glob("*.yaml")} == set(names)
