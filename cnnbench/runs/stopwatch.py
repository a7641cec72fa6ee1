"""The wall time of the parts of a run."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

__all__ = ["Stopwatch"]


class Stopwatch:
    """The seconds spent in each named part. An inner part does not count for the outer one.

    `total_s` counts from `started`, a time of perf_counter. It includes the time before the run was
    resumed.
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
        """Return the seconds spent in `part` until now."""
        running = time.perf_counter() - self._since if part == self._part else 0.0
        return self.seconds.get(part, 0.0) + running

    def exclude(self, seconds: float) -> None:
        """Subtract these last seconds from the running part, but not from `total_s`."""
        self._since += seconds

    @property
    def total_s(self) -> float:
        return time.perf_counter() - self.started

    def as_dict(self) -> dict[str, float]:
        """Return the seconds of each part, and `total_s` as `total`."""
        parts = {part: self.spent(part) for part in self.seconds}
        return {**parts, "total": self.total_s}

    def add(self, earlier: Mapping[str, float]) -> None:
        """Add the times of the run before it was resumed, as `as_dict` returned them."""
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
