"""Which page comes next, and when a listing plainly does not end."""

import pytest

from exporter.datarobot.models import Page, Task
from exporter.datarobot.paging import Listing
from exporter.errors import Malformed


def page(*ids: str) -> Page:
    return Page([Task(status_id=status_id) for status_id in ids], None)


@pytest.mark.parametrize(
    ("pointer", "expected"),
    [
        ("/?offset=5&limit=7", (5, 7)),
        ("https://elsewhere.test/any?limit=7&offset=5#offset=9", (5, 7)),
        ("?offset=5", (5, 100)),
        ("?offset=1&offset=5&limit=1&limit=7", (5, 7)),
        ("?offset=5&limit=0", (5, 0)),
        ("?offset=-5&limit=5", "the page's `next` names a negative offset or limit"),
        ("?offset=5&limit=-5", "the page's `next` names a negative offset or limit"),
        ("?offset=x", "the page's `next` names no offset"),
        ("?offset=", "the page's `next` names no offset"),
        ("?limit=5", "the page's `next` names no offset"),
        ("?offset=" + "9" * 5000, "the page's `next` names no offset"),
        ("http://[/?offset", "the page's `next` names no offset"),
        ("no-query&offset=5", "the page's `next` names no offset"),
        ("?offset=0", "the listing loops: the page at offset 0 names 0 as the next"),
    ],
)
def test_the_next_page(pointer: str, expected: tuple[int, int] | str) -> None:
    listing = Listing(100)
    assert listing.range == (0, 100)
    if isinstance(expected, str):
        with pytest.raises(Malformed) as raised:
            listing.turn(page("a"), pointer)
        assert str(raised.value) == expected
        assert listing.range == (0, 100)
    else:
        listing.turn(page("a"), pointer)
        assert listing.range == expected


def test_a_pointer_backwards_is_a_loop() -> None:
    listing = Listing(0)
    listing.turn(page("a"), "?offset=5")
    with pytest.raises(Malformed, match=r"^the listing loops: the page at offset 5 names 4 as the next$"):
        listing.turn(page("b"), "?offset=4")


@pytest.mark.parametrize(
    ("rows", "turns"), [((), 11), (("a", "b"), 12)], ids=["empty pages", "an offset that is ignored"]
)
def test_pages_in_a_row_without_new_tasks(rows: tuple[str, ...], turns: int) -> None:
    """Ten of them are fine: some servers leave out rows after they have cut pages."""
    listing = Listing(2)

    def turn(*ids: str) -> None:
        listing.turn(page(*ids), f"?offset={listing.range.offset + 2}")

    for _ in range(2):
        for _ in range(turns - 1):
            turn(*rows)
        turn("b", "a")
    for _ in range(turns - 1):
        turn(*rows)
    with pytest.raises(Malformed, match=r"^the listing does not end: 11 pages in a row have no new tasks$"):
        turn(*rows)


@pytest.mark.parametrize(
    ("page_size", "rows", "ends"),
    [(0, 5, True), (0, 4, False), (1000, 4, False), (10, 5, True), (3, 2, True), (3, 1, False), (1, 1, True)],
)
def test_thousands_of_pages_that_are_all_but_empty(page_size: int, rows: int, *, ends: bool) -> None:
    """Small pages are fine where they were asked for."""
    listing = Listing(page_size)

    def turn() -> None:
        first = listing.range.offset
        listing.turn(page(*(f"{first}-{row}" for row in range(rows))), f"?offset={first + 1}")

    for _ in range(1000):
        turn()
    if ends:
        turn()
    else:
        problem = f"the listing does not end: 1001 pages have {1001 * rows} tasks"
        with pytest.raises(Malformed, match=f"^{problem}$"):
            turn()
