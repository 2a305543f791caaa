"""The latest task of each counter and histogram bucket: the way from a sample to a task."""

from typing import Final

import msgspec

from exporter.tracking.snapshot import Key


LABEL: Final = "status_id"
_MOST_CHARACTERS: Final = 128


class Exemplar(msgspec.Struct, frozen=True):
    """An event of one task.

    Attributes:
        status_id: Id of the task.
        value: What the event added to the sample: 1, or a duration in seconds.
        at: When it was observed: Unix seconds on the local clock.
    """

    status_id: str
    value: float
    at: float


class Exemplars(msgspec.Struct):
    """The latest outcomes.

    Attributes:
        finished: Of each status and type.
        durations: Of each bucket, by status and type, and by the bucket's number.
    """

    finished: dict[Key, Exemplar] = {}
    durations: dict[Key, dict[int, Exemplar]] = {}

    def copy(self) -> "Exemplars":
        """Return a copy that shares nothing mutable with this one."""
        return Exemplars(
            dict(self.finished), {key: dict(by_bucket) for key, by_bucket in self.durations.items()}
        )

    def add(self, key: Key, status_id: str, at: float, seconds: float | None, bucket: int) -> None:
        """Add an outcome, unless the id is too long for OpenMetrics.

        Args:
            key: Its status and type.
            status_id: Id of the task.
            at: When it was observed: Unix seconds on the local clock.
            seconds: Its duration; None if that is not known.
            bucket: Number of the duration's bucket.
        """
        if len(LABEL) + len(status_id) > _MOST_CHARACTERS:
            return
        self.finished[key] = Exemplar(status_id, 1.0, at)
        if seconds is not None:
            self.durations.setdefault(key, {})[bucket] = Exemplar(status_id, seconds, at)
