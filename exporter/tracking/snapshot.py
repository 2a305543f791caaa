"""One complete listing, counted: what every gauge about tasks is read from."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import msgspec

from exporter.datarobot.models import DOCUMENTED_TYPES, InvalidReason, Status


TYPE_OTHER: Final = "other"

Key: TypeAlias = tuple[Status, str]
"""Status and task type, as in the labels."""


class TypeNames(msgspec.Struct, frozen=True):
    """Which task types have a label of their own, so that an account cannot make series without end.

    Attributes:
        known: Types that have series before one is seen, and never fold.
        limit: How many types seen in listings keep their name, known ones among them; later ones
            become `other`.
        seen: Those that do, in the order they came.
        folded: Whether any type has ever become `other`.
    """

    known: frozenset[str] = frozenset(DOCUMENTED_TYPES)
    limit: int = 100
    seen: tuple[str, ...] = ()
    folded: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """Every value of the `task_type` label that has series now, sorted."""
        return tuple(sorted(self.known.union(self.seen, (TYPE_OTHER,) if self.folded else ())))


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What one complete listing says.

    Attributes:
        counts: Tasks by status and type; pairs without a task are absent.
        created: When the tasks that wait or run were created, by status and type: Unix seconds on the
            server's clock, ascending. Tasks whose time is not known are absent.
        types: The type names after this listing; hand them to the next.
        folded_types: How many different types of this listing became `other`.
        pages: Pages walked.
        tasks: Tasks listed, without duplicates.
        duplicates: Rows left out because their id had been seen.
        invalid: Records that were not as documented, by reason.
        unknown_words: Status words that we do not know, at most a hundred.
    """

    counts: Mapping[Key, int]
    created: Mapping[Key, Sequence[float]]
    types: TypeNames
    folded_types: int
    pages: int
    tasks: int
    duplicates: int
    invalid: Mapping[InvalidReason, int]
    unknown_words: frozenset[str]

    def oldest(self, status: Status, task_type: str) -> float | None:
        """Creation of the oldest such task in Unix seconds, or None if there is none."""
        created = self.created.get((status, task_type))
        return created[0] if created else None

    def older_than(self, instant: float, status: Status, task_type: str) -> int:
        """How many such tasks were created before `instant` (Unix seconds)."""
        return bisect_left(self.created.get((status, task_type), ()), instant)


class TypeLabels(dict[str, str]):
    """The label of each type of one listing; a type met for the first time gets one while there is room.

    Attributes:
        folded: The types that are `other`.
    """

    def __init__(self, types: TypeNames) -> None:
        super().__init__({name: name for name in types.seen})
        self._types = types
        self.folded: set[str] = set()

    def __missing__(self, task_type: str) -> str:
        if len(self) >= self._types.limit and task_type not in self._types.known:
            self.folded.add(task_type)
            return TYPE_OTHER
        self[task_type] = task_type
        return task_type

    def names(self) -> TypeNames:
        """The names in use after the listing."""
        return TypeNames(
            known=self._types.known,
            limit=self._types.limit,
            seen=tuple(self),
            folded=self._types.folded or bool(self.folded),
        )
