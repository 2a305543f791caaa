"""The limit of file descriptors, and those that are kept for the endpoint."""

import resource
from pathlib import Path

import pytest

from exporter.web.descriptors import Reserve, raise_limit


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_the_soft_limit_is_raised_to_the_hard_one() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    try:
        for _ in range(2):
            assert raise_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(before[1], 65_536)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("soft", "limit"), [(resource.RLIM_INFINITY, 65_536), (1024, 1024), (100_000, 100_000)]
)
def test_a_limit_that_cannot_or_need_not_be_raised_stays(
    monkeypatch: pytest.MonkeyPatch, soft: int, limit: int
) -> None:
    def refuse(_resource: int, _limits: tuple[int, int]) -> None:
        raise ValueError("not allowed to raise maximum limit")

    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, resource.RLIM_INFINITY))
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
