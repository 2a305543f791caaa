"""Which task types have a series of their own, so that an account cannot create series without end."""

from typing import Final

import msgspec

from exporter.datarobot.models import DOCUMENTED_TYPES


TYPE_OTHER: Final = "other"


class TaskTypes(msgspec.Struct, frozen=True):
    """The task types of one account.

    Attributes:
        known: Types that never fold.
        exposes_known: Whether they have series before a task of them is listed.
        limit: How many listed types keep their name, known ones among them; later ones become `other`.
        seen: The listed types that keep their name, in the order they came.
        folded: Whether any type has ever become `other`.
    """

    known: frozenset[str] = frozenset(DOCUMENTED_TYPES)
    exposes_known: bool = True
    limit: int = 100
    seen: tuple[str, ...] = ()
    folded: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """Every value of the `task_type` label that has series now, sorted."""
        known = self.known if self.exposes_known else ()
        return tuple(sorted({*self.seen, *known, *((TYPE_OTHER,) if self.folded else ())}))


class TypeLabels(dict[str, str]):
    """Label by type during one listing; a new type gets a label of its own while there is room."""

    def __init__(self, types: TaskTypes) -> None:
        super().__init__({name: name for name in types.seen})
        self._types = types
        self._folded = types.folded

    def __missing__(self, task_type: str) -> str:
        if len(self) >= self._types.limit and task_type not in self._types.known:
            self._folded = True
            return TYPE_OTHER
        self[task_type] = task_type
        return task_type

    def types(self) -> TaskTypes:
        """The types in use after the listing."""
        return msgspec.structs.replace(self._types, seen=tuple(self), folded=self._folded)
