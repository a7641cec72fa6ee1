"""Hydra's own options and overrides pass through the parsers of commands."""

import re

import pytest
from helpers.command import Command

from cnnbench.cli.options import PARSERS
from cnnbench.errors import ConfigError

VALUES = {
    **dict.fromkeys(("--cfg", "-c"), ("job",)),
    **dict.fromkeys(("--info", "-i"), ("all",)),
    **dict.fromkeys(("--package", "-p", "--config-name", "-cn", "--config-dir", "-cd"), ("x",)),
    "--experimental-rerun": ("x",),
}


def test_options_of_hydra_are_accepted(within: Command) -> None:
    flags = re.findall(r"^(--?[\w-]+(?:,-\w+)?) :", within("--hydra-help").stdout, re.MULTILINE)
    assert len(flags) > 10
    for flag in {name for names in flags for name in names.split(",")} - {"--help", "-h"}:
        words = [flag, *VALUES.get(flag, ())]
        if flag in ("--config-path", "-cp"):
            with pytest.raises(ConfigError, match="--config-path would hide"):
                PARSERS["train"]().read([flag, "x"])
        else:
            assert PARSERS["train"]().read(words)[1] == words


@pytest.mark.parametrize(
    "words",
    [
        "-m seed=1,2 model=mlp",
        "--config-dir mine experiment=x --cfg job -p train",
        "--info defaults-tree seed=1",
        "--info",
        "-sc query=bash",
        "~data.root ~tracker +model.width=3 ++seed=1",
        "data.path= seed=1",
        "data.path=a=b hydra/launcher=joblib",
    ],
)
def test_overrides_of_hydra_are_accepted(words: str) -> None:
    PARSERS["train"]().read(words.split())
