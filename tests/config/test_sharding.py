"""Shards: each account is on exactly one, the same one everywhere and in every version."""

import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
import requests
from conftest import eventually
from hypothesis import given
from hypothesis import strategies as st
from running import RunningExporter

from exporter.config.sharding import Shard, parse_shard, shard_of
from exporter.errors import ConfigError
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


ACCOUNTS: Final = ("production", "research", "staging", "training", "Research_1.eu", "default")

OR_POD: Final = "or the name of a StatefulSet's pod"

names = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)
totals = st.integers(1, 200)


# Which account is where


@given(names, totals)
def test_each_account_is_on_exactly_one_shard(name: str, total: int) -> None:
    assert [index for index in range(total) if Shard(index, total).has(name)] == [shard_of(name, total)]


@given(names, totals)
def test_with_one_more_shard_an_account_stays_or_moves_to_the_new_one(name: str, total: int) -> None:
    assert shard_of(name, total + 1) in {shard_of(name, total), total}


@pytest.mark.parametrize(
    ("name", "shards"),
    [
        ("production", [0, 1, 2, 2, 2, 30]),
        ("research", [0, 1, 1, 1, 1, 75]),
        ("staging", [0, 1, 1, 1, 8, 87]),
        ("default", [0, 1, 2, 2, 2, 51]),
        ("a", [0, 1, 1, 1, 1, 50]),
        ("Research_1.eu", [0, 1, 1, 1, 1, 1]),
    ],
)
def test_an_account_never_moves_by_itself(name: str, shards: list[int]) -> None:
    """Values of the first version: where these change, every fleet's accounts would move with an update."""
    assert [shard_of(name, total) for total in (1, 2, 3, 5, 10, 100)] == shards


@pytest.mark.parametrize("pattern", ["team-{}", "{}", "eu-west-{}.production", "{:032x}"])
@pytest.mark.parametrize("total", [2, 3, 8, 10])
def test_names_that_are_alike_are_spread(pattern: str, total: int) -> None:
    """Of 1,000 accounts, no shard is a third away from its share."""
    found = Counter(shard_of(pattern.format(number), total) for number in range(1000))
    share = 1000 / total
    assert set(found) == set(range(total))
    assert all(share * 2 / 3 < count < share * 4 / 3 for count in found.values())


# The flags


@pytest.mark.parametrize(
    ("index", "total", "expected"),
    [
        (None, None, Shard(0, 1)),
        ("0", None, Shard(0, 1)),
        (None, "1", Shard(0, 1)),
        ("2", "3", Shard(2, 3)),
        ("watch-datarobot-exporter-2", "3", Shard(2, 3)),
        ("r2d2-10", "11", Shard(10, 11)),
    ],
)
def test_an_index_is_a_number_or_a_pods_name(index: str | None, total: str | None, expected: Shard) -> None:
    assert parse_shard(index, total) == expected


@pytest.mark.parametrize(
    ("index", "total", "expected"),
    [
        ("3", "3", ["--shard.index: '3' is too large for a total of 3; expected one from 0 to 2"]),
        ("pod-7", "3", ["--shard.index: 'pod-7' is too large for a total of 3; expected one from 0 to 2"]),
        ("1", None, ["--shard.index: '1' is too large for a total of 1; expected one from 0 to 0"]),
        ("-1", "3", [f"--shard.index: '-1' is not a valid index; expected one from 0 to 2, {OR_POD}"]),
        (None, "3", ["--shard.index is missing, and --shard.total is 3; expected one from 0 to 2"]),
        (None, "0", ["--shard.total: '0' is not a valid number; expected 1 or more"]),
        (
            "pod",
            "-2",
            [
                "--shard.total: '-2' is not a valid number; expected 1 or more",
                f"--shard.index: 'pod' is not a valid index; expected one from 0, {OR_POD}",
            ],
        ),
        ("0", "9" * 5000, None),
        ("²", "3", None),
        ("0", "٣", None),
    ],
)
def test_an_invalid_shard_is_refused_with_its_flag(
    index: str | None, total: str | None, expected: list[str] | None
) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_shard(index, total)
    assert expected is None or list(refused.value.errors) == expected
    assert all(sentence.startswith("--shard.") for sentence in refused.value.errors)


# The program


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    accounts = {f"fake-{name}": SimulatedAccount(name, start=time.time(), profile=EMPTY) for name in ACCOUNTS}
    with Simulator(accounts, clock=time.time) as running:
        yield running


@pytest.fixture
def start(simulator: Simulator, tmp_path: Path) -> Iterator[Callable[..., RunningExporter]]:
    """Write a configuration of some accounts, and start exporters on it."""
    with ExitStack() as running:

        def start(*flags: str, accounts: tuple[str, ...] = ACCOUNTS, rest: str = "") -> RunningExporter:
            listed = "".join(
                f"  - {{name: {name}, endpoint: '{simulator.url}',"
                f" authorization: {{credentials: fake-{name}}}}}\n"
                for name in accounts
            )
            file = tmp_path / "config.yaml"
            file.write_text(f"accounts:\n{listed}poll: {{interval: 500ms}}\n{rest}")
            file.chmod(0o600)
            return running.enter_context(RunningExporter(flags, cwd=tmp_path))

        yield start


LISTEN: Final = ("--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle")


def polled(exporter: RunningExporter) -> list[str]:
    eventually(lambda: exporter.get("/-/ready").ok)
    return re.findall(r'^datarobot_up\{account="(.+)"\} 1.0$', exporter.get("/metrics").text, re.MULTILINE)


def on(index: int, total: int) -> list[str]:
    return [name for name in ACCOUNTS if shard_of(name, total) == index]


def test_shards_poll_each_account_once_between_them(start: Callable[..., RunningExporter]) -> None:
    shards = [start(*LISTEN, f"--shard.index=exporter-{index}", "--shard.total=3") for index in range(3)]
    found = [polled(shard) for shard in shards]
    assert found == [on(index, 3) for index in range(3)]
    assert sorted(name for names in found for name in names) == sorted(ACCOUNTS)
    for index, shard in enumerate(shards):
        assert f"accounts={len(found[index])} shard_index={index} shard_total=3" in shard.log
        shown = shard.get("/config").text
        assert shown.startswith(f"# Shard {index} of 3: of the accounts, its own.\naccounts:")
        assert re.findall("^- name: (.*)$", shown, re.MULTILINE) == found[index]


def test_a_shard_without_accounts_serves_itself_and_takes_those_that_come(
    start: Callable[..., RunningExporter],
) -> None:
    """It is healthy and ready, as there is nothing to wait for; a reload may give it an account."""
    empty = start(*LISTEN, "--shard.index=2", "--shard.total=3", accounts=("research",))
    assert polled(empty) == []
    assert "datarobot_exporter_build_info{" in empty.get("/metrics").text
    assert empty.get("/-/healthy").ok
    assert "accounts: []\n" in empty.get("/config").text
    assert "event=exporter.started" in empty.log
    assert " accounts=0 " in empty.log
    start("--config.check", accounts=("research", "production")).wait()
    assert requests.post(f"http://127.0.0.1:{empty.port}/-/reload", timeout=30).ok
    eventually(lambda: polled(empty) == ["production"])
    empty.signal(signal.SIGTERM)
    assert empty.wait() == 0


def test_one_poll_is_of_the_shards_accounts(start: Callable[..., RunningExporter]) -> None:
    it = start("--once", "--shard.index=1", "--shard.total=2")
    assert it.wait() == 0
    found = {line.split('"')[1] for line in it.printed if line.startswith("datarobot_up{")}
    assert found == set(on(1, 2))


def test_the_check_prints_how_many_accounts_are_on_this_shard(start: Callable[..., RunningExporter]) -> None:
    it = start("--config.check", "--shard.index=1", "--shard.total=10")
    assert it.wait() == 0
    assert it.printed == [
        f"config.yaml: configuration is valid (6 accounts, {len(on(1, 10))} on shard 1 of 10)"
    ]


def test_an_invalid_shard_exits_with_2(start: Callable[..., RunningExporter]) -> None:
    it = start("--shard.index=3", "--shard.total=3")
    assert it.wait() == 2
    assert it.lines == ["error: --shard.index: '3' is too large for a total of 3; expected one from 0 to 2"]


def test_the_state_of_an_account_that_moved_is_removed(
    start: Callable[..., RunningExporter], tmp_path: Path
) -> None:
    """Another shard counts its ends now; should it come back, they would count twice."""
    state = "state: {directory: state}\n"
    one = start(*LISTEN, rest=state)
    polled(one)
    eventually(lambda: len(list((tmp_path / "state").glob("*.db"))) == len(ACCOUNTS))
    one.signal(signal.SIGTERM)
    assert one.wait() == 0
    two = start(*LISTEN, "--shard.index=0", "--shard.total=2", rest=state)
    assert polled(two) == on(0, 2)
    assert {path.stem for path in (tmp_path / "state").glob("*.db")} == set(on(0, 2))
    assert "event=state.removed" in two.log
