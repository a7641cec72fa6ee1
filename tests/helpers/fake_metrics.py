"""Rows as metrics.csv has them, for tests of what is drawn of them."""

from collections.abc import Sequence

__all__ = ["Row", "make_epochs"]

Row = dict[str, float]


def make_epochs(
    train: Sequence[float],
    other: Sequence[float],
    *,
    part: str = "validation",
    losses: tuple[Sequence[float], Sequence[float]] | None = None,
    lr: Sequence[float] | None = None,
) -> list[Row]:
    """Epochs with these accuracies of train and `part`; losses are 2 less that, unless given, rates are 0.1."""
    train_losses, other_losses = losses or (
        [2 - each for each in train],
        [2 - each for each in other],
    )
    rates = lr or [0.1] * len(train)
    columns = zip(rates, train_losses, train, other_losses, other, strict=True)
    names = ("lr", "train_loss", "train_accuracy", f"{part}_loss", f"{part}_accuracy")
    return [
        {"epoch": number, **dict(zip(names, row, strict=True))}
        for number, row in enumerate(columns, start=1)
    ]
