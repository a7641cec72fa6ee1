"""Where the wall time of a run went."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds up the seconds spent in named parts; what is inside another part counts for itself alone.

    `total_s` counts from `started`, a perf_counter time, and includes what was spent before a run went on.
    """

    def __init__(self, started: float) -> None:
        self.started = started
        self.seconds: dict[str, float] = {}
        self._part: str | None = None
        self._since = started

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        outer = self._part
        self._switch(part)
        try:
            yield
        finally:
            self._switch(outer)

    def spent(self, part: str) -> float:
        """Seconds in `part` up to now."""
        running = time.perf_counter() - self._since if part == self._part else 0.0
        return self.seconds.get(part, 0.0) + running

    def exclude(self, seconds: float) -> None:
        """Take these last seconds out of the part that is running; `total_s` keeps them."""
        self._since += seconds

    @property
    def total_s(self) -> float:
        return time.perf_counter() - self.started

    def as_dict(self) -> dict[str, float]:
        """Seconds by part, and their `total`."""
        parts = {part: self.spent(part) for part in self.seconds}
        return {**parts, "total": self.total_s}

    def add(self, earlier: Mapping[str, float]) -> None:
        """Count what an earlier part of the run took, as `as_dict` gave it."""
        for part, seconds in earlier.items():
            if part == "total":
                self.started -= seconds
            else:
                self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    def _switch(self, part: str | None) -> None:
        now = time.perf_counter()
        if self._part is not None:
            self.seconds[self._part] = self.seconds.get(self._part, 0.0) + now - self._since
        self._part, self._since = part, now
