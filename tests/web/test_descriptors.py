"""The endpoint answers although other parts of the process have taken all file descriptors."""

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from serving import served

from exporter.web.descriptors import Reserve, raise_limit


@contextlib.contextmanager
def limit_of(soft: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    with limit_of(64):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        assert raise_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 65_536)


@pytest.mark.parametrize(
    ("soft", "hard", "limit"),
    [
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, 65_536),
        (1024, resource.RLIM_INFINITY, 1024),
        (100_000, 100_000, 100_000),
    ],
)
def test_a_limit_that_cannot_or_need_not_be_raised_stays(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, limit: int
) -> None:
    def refuse(_resource: int, _limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_limit() == limit


def test_a_reserve_gives_descriptors_back_one_by_one() -> None:
    before = open_files()
    reserve = Reserve(3)
    assert open_files() == before + 3
    assert [reserve.release() for _ in range(4)] == [True, True, True, False]
    assert open_files() == before
    reserve.fill()
    reserve.close()
    assert open_files() == before


def test_a_scrape_is_answered_when_polls_have_taken_every_descriptor() -> None:
    taken: list[int] = []
    with served() as port, requests.Session() as session:
        url = f"http://127.0.0.1:{port}/-/healthy"
        assert session.get(url, timeout=30).ok
        with limit_of(open_files() + 8):
            # All but the one that the client in this process needs.
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.dup(0))
            os.close(taken.pop())
            try:
                assert requests.get(url, timeout=30, headers={"Connection": "close"}).ok
            finally:
                for descriptor in taken:
                    os.close(descriptor)
