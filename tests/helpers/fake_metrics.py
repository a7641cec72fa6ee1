"""Made-up rows of metrics.csv, for tests of curves."""

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
    """Return epochs with the accuracies of train and `part`.

    By default a loss is 2 minus the accuracy, and the learning rate is 0.1.
    """
    if losses is None:
        losses = [2 - accuracy for accuracy in train], [2 - accuracy for accuracy in other]
    train_losses, other_losses = losses
    rates = lr or [0.1] * len(train)
    columns = zip(rates, train_losses, train, other_losses, other, strict=True)
    names = ("lr", "train_loss", "train_accuracy", f"{part}_loss", f"{part}_accuracy")
    return [
        {"epoch": number, **dict(zip(names, row, strict=True))}
        for number, row in enumerate(columns, start=1)
    ]
