"""The pages of a listing: which one comes next, and when there are plainly too many of them."""

from typing import Final, NamedTuple
from urllib.parse import parse_qs

from exporter.datarobot.models import Page
from exporter.errors import Malformed


_MOST_IDLE: Final = 10
_FEW_PAGES: Final = 1_000
_FEW_ROWS: Final = 10


class Range(NamedTuple):
    """The part of a listing that one page covers, as the API's parameters name it."""

    offset: int
    limit: int


class Listing:
    """Follows a listing from page to page, and refuses one that would not end.

    Args:
        page_size: Rows to ask for; 0 for all.

    Attributes:
        range: The part to ask for now.
    """

    def __init__(self, page_size: int) -> None:
        self.range = Range(0, page_size)
        self._pages = 0
        self._rows = 0
        self._idle = 0
        self._ends: tuple[str | None, str | None] | None = None
        self._usual = min(page_size or _FEW_ROWS, _FEW_ROWS) / 2

    def turn(self, page: Page, pointer: str) -> None:
        """Go on to the page that `pointer` names.

        Args:
            page: What the current range gave.
            pointer: Its `next`.

        Raises:
            Malformed: The pointer does not lead on, or has led on for too long.
        """
        following = _range(pointer, self.range.limit)
        if following.offset <= self.range.offset:
            raise Malformed(
                f"the listing loops: the page at offset {self.range.offset} "
                f"names {following.offset} as the next"
            )
        rows = page.tasks
        ends = (rows[0].status_id, rows[-1].status_id) if rows else None
        self._idle = 0 if rows and ends != self._ends else self._idle + 1
        self._ends = ends
        self._pages += 1
        self._rows += len(rows)
        if self._idle > _MOST_IDLE:
            raise Malformed(f"the listing does not end: {self._idle} pages in a row have no new tasks")
        if self._pages > _FEW_PAGES and self._rows < self._pages * self._usual:
            raise Malformed(f"the listing does not end: {self._pages} pages have {self._rows} tasks")
        self.range = following


def _range(pointer: str, limit: int) -> Range:
    """Offset and limit that a page's `next` names; the limit may be left out."""
    try:
        query = parse_qs(pointer.partition("?")[2].partition("#")[0])
        following = Range(int(query["offset"][-1]), int(query.get("limit", [limit])[-1]))
    except (ValueError, KeyError) as error:
        raise Malformed("the page's `next` names no offset") from error
    if min(following) < 0:
        raise Malformed("the page's `next` names a negative offset or limit")
    return following
