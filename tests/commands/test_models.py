"""`cnnbench models`: the list of networks."""

from helpers.command import Command

from cnnbench import models


def test_models_lists_the_registry_and_takes_no_arguments(within: Command) -> None:
    assert within("models", "lenet").returncode == 2
    lines = [" ".join(line.split()) for line in within("models").stdout.splitlines()]
    row = "alexnet 46,764,746 67 224 128 0.01 0 10 Krizhevsky"
    assert any(line.startswith(row) for line in lines)
    names = [line.split()[0] for line in lines[1 : 1 + len(models.REGISTRY)]]
    assert names == list(models.REGISTRY)
