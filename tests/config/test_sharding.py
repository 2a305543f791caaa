"""Shards: each account is on exactly one, the same one everywhere and in every version."""

import re
import signal
import string
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest
import requests
from click.testing import CliRunner
from conftest import eventually
from hypothesis import given
from hypothesis import strategies as st
from running import RunningExporter

from exporter.cli import command_line
from exporter.config.sharding import Shard, parse_shard, shard_of
from exporter.errors import ConfigError
from exporter.simulator.profiles import EMPTY
from exporter.simulator.server import Simulator
from exporter.simulator.simulation import SimulatedAccount


ACCOUNTS: Final = ("production", "research", "staging", "training", "Research_1.eu", "default")
OR_POD: Final = "or the name of a StatefulSet's pod"
NAMES: Final = st.text(string.ascii_letters + string.digits + "_.-", min_size=1, max_size=64)


@given(NAMES, st.integers(1, 50))
def test_each_account_is_on_one_shard_and_moves_only_to_a_new_one(name: str, total: int) -> None:
    shards = [Shard(index, total).has(name) for index in range(total)]
    assert [index for index, has in enumerate(shards) if has] == [shard_of(name, total)]
    assert shard_of(name, total + 1) in {shard_of(name, total), total}


@pytest.mark.parametrize(
    ("name", "shards"),
    [
        ("production", [0, 1, 2, 2, 2, 30]),
        ("research", [0, 1, 1, 1, 1, 75]),
        ("staging", [0, 1, 1, 1, 8, 87]),
        ("Research_1.eu", [0, 1, 1, 1, 1, 1]),
    ],
)
def test_an_account_never_moves_by_itself(name: str, shards: list[int]) -> None:
    """Values of the first version: where these change, every fleet's accounts would move with an update."""
    assert [shard_of(name, total) for total in (1, 2, 3, 5, 10, 100)] == shards


@pytest.mark.parametrize("pattern", ["team-{}", "{}", "eu-west-{}.production", "{:032x}"])
@pytest.mark.parametrize("total", [2, 3, 10])
def test_names_that_are_alike_are_spread(pattern: str, total: int) -> None:
    """Of 1,000 accounts, no shard is a third away from its share."""
    found = Counter(shard_of(pattern.format(number), total) for number in range(1000))
    share = 1000 / total
    assert set(found) == set(range(total))
    assert all(share * 2 / 3 < count < share * 4 / 3 for count in found.values())


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


NO_TOTAL: Final = "is not a valid number; expected 1 or more"


@pytest.mark.parametrize(
    ("index", "total", "error"),
    [
        ("pod-7", "3", "--shard.index: 'pod-7' is too large for a total of 3; expected one from 0 to 2"),
        ("1", None, "--shard.index: '1' is too large for a total of 1; expected one from 0 to 0"),
        ("²", "3", f"--shard.index: '²' is not a valid index; expected one from 0 to 2, {OR_POD}"),
        (None, "3", "--shard.index is missing, and --shard.total is 3; expected one from 0 to 2"),
        (None, "0", f"--shard.total: '0' {NO_TOTAL}"),
        ("0", "٣", f"--shard.total: '٣' {NO_TOTAL}"),
        ("0", "9" * 5000, f"--shard.total: '{'9' * 5000}' {NO_TOTAL}"),
        (
            "x",
            "-2",
            f"--shard.total: '-2' {NO_TOTAL}\n--shard.index: 'x' is not a valid index; expected one from",
        ),
    ],
)
def test_an_invalid_shard_is_refused_with_its_flag(index: str | None, total: str | None, error: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_shard(index, total)
    assert str(refused.value).startswith(error)


# The program


Write = Callable[..., Path]
Start = Callable[..., RunningExporter]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write a configuration of some simulated accounts."""
    accounts = {f"fake-{name}": SimulatedAccount(name, start=time.time(), profile=EMPTY) for name in ACCOUNTS}
    with Simulator(accounts, clock=time.time) as simulator:

        def write(*names: str) -> Path:
            listed = "".join(
                f"  - {{name: {name}, endpoint: '{simulator.url}',"
                f" authorization: {{credentials: fake-{name}}}}}\n"
                for name in names
            )
            file = tmp_path / "config.yaml"
            file.write_text(f"accounts:\n{listed}poll: {{interval: 500ms}}\nstate: {{directory: state}}\n")
            file.chmod(0o600)
            return file

        yield write


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start exporters on the configuration."""
    flags = ("--web.listen-address=127.0.0.1:0", "--web.enable-lifecycle")
    with ExitStack() as running:
        yield lambda *more: running.enter_context(RunningExporter((*flags, *more), cwd=tmp_path))


def polled(exporter: RunningExporter) -> list[str]:
    eventually(lambda: exporter.get("/-/ready").ok)
    return re.findall(r'^datarobot_up\{account="(.+)"\} 1.0$', exporter.get("/metrics").text, re.MULTILINE)


def on(index: int, total: int) -> list[str]:
    return [name for name in ACCOUNTS if shard_of(name, total) == index]


def test_shards_poll_each_account_once_between_them_and_drop_the_state_of_others(
    write: Write, start: Start, tmp_path: Path
) -> None:
    """Another shard counts the outcomes of an account that moved; if it came back, they would count twice."""
    write(*ACCOUNTS)
    one = start()
    assert polled(one) == list(ACCOUNTS)
    eventually(lambda: len(list((tmp_path / "state").glob("*.db"))) == len(ACCOUNTS))
    one.signal(signal.SIGTERM)
    assert one.wait() == 0
    shard = start("--shard.index=exporter-0", "--shard.total=2")
    assert polled(shard) == on(0, 2)
    assert f"accounts={len(on(0, 2))} shard_index=0 shard_total=2" in shard.log
    shown = shard.get("/config").text
    assert shown.startswith("# Shard 0 of 2: of the accounts, its own.\naccounts:")
    assert re.findall("^- name: (.*)$", shown, re.MULTILINE) == on(0, 2)
    assert {path.stem for path in (tmp_path / "state").glob("*.db")} == set(on(0, 2))
    assert "event=state.removed" in shard.log


def test_a_shard_without_accounts_serves_itself_and_takes_those_that_come(write: Write, start: Start) -> None:
    """It is healthy and ready, as there is nothing to wait for; a reload may give it an account."""
    write("research")
    empty = start("--shard.index=2", "--shard.total=3")
    assert polled(empty) == []
    assert "datarobot_exporter_build_info{" in empty.get("/metrics").text
    assert empty.get("/-/healthy").ok
    assert "accounts: []\n" in empty.get("/config").text
    write("research", "production")
    assert requests.post(f"http://127.0.0.1:{empty.port}/-/reload", timeout=30).ok
    eventually(lambda: polled(empty) == ["production"])


def test_the_check_prints_how_many_accounts_are_on_this_shard(write: Write) -> None:
    file = write(*ACCOUNTS)
    flags = [f"--config.file={file}", "--config.check", "--shard.index=1", "--shard.total=10"]
    found = CliRunner().invoke(command_line, flags)
    count = f"6 accounts, {len(on(1, 10))} on shard 1 of 10"
    assert (found.exit_code, found.output) == (0, f"{file}: configuration is valid ({count})\n")
