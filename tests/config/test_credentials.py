import os
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exporter.config.credentials import (
    TOKEN_UNREADABLE,
    Credentials,
    FileCredentials,
    from_environment,
    literal,
)
from exporter.errors import ConfigError


TOKEN = "NjA-fake-token:1+/="
OTHER = "NjA-fake-token:2+/="
ALONE = "expected a file that holds the token alone"
EMPTY = "is empty; expected the token alone"
SPACE = "holds white space in its middle; expected the token alone, without 'Bearer'"
NOT_ASCII = "holds more than printable ASCII characters; expected the token alone"
QUOTES = "has quotes around it; expected none: docker --env-file keeps the quotes of a value"
URL = "is a URL; expected the token alone: are endpoint and token in each other's place?"
VARIABLE = "is a variable, which is not expanded here; expected the token alone, or use credentials_env"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"  {TOKEN}\n")
    return path


def error(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        FileCredentials(path)
    (only,) = caught.value.errors
    return only


@pytest.mark.parametrize(
    "content", [TOKEN, f"  {TOKEN}\n", f"\t{TOKEN} \r\n", f"\ufeff{TOKEN}", "x" * 65_536, "$fake-token$"]
)
def test_what_surrounds_a_token_is_not_part_of_it(file: Path, content: str) -> None:
    expected = content.strip().removeprefix("\ufeff")
    file.write_text(content)
    assert FileCredentials(file).token() == expected
    plain = content.removeprefix("\ufeff")
    assert literal(plain).token() == from_environment("A", {"A": plain}).token() == expected


@pytest.mark.parametrize(
    ("content", "predicate"),
    [
        (b"", EMPTY),
        (b" \n\t", EMPTY),
        (b"Bearer abc", SPACE),
        (b"abc\ndef", SPACE),
        ("abcé".encode(), NOT_ASCII),
        (b"abc\xff", NOT_ASCII),
        (b"abc\x00def", NOT_ASCII),
        (b"https://h/api/v2", URL),
        (b'"abc"', QUOTES),
        (b"'abc'", QUOTES),
        (b"${TOKEN}", VARIABLE),
        (b"$TOKEN", VARIABLE),
        (b"$(cat token)", VARIABLE),
        (b"x" * 65_537, "is larger than 64 KiB; expected the token alone"),
    ],
)
def test_what_is_no_token_is_refused(file: Path, content: bytes, predicate: str) -> None:
    """Wherever it comes from. A variable holds what the system cannot decode as surrogates."""
    file.write_bytes(content)
    text = content.decode("utf-8", "surrogateescape")
    assert error(file) == f"{file} {predicate}"
    with pytest.raises(ConfigError) as caught:
        literal(text)
    assert caught.value.errors == (f"the token {predicate}",)
    with pytest.raises(ConfigError) as caught:
        from_environment("A", {"A": text})
    assert caught.value.errors == (f"the token {predicate}",)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, file: Path) -> None:

    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert error(dangling) == f"{dangling} does not exist; {ALONE}"
    assert error(fifo) == f"{fifo} is not a regular file; {ALONE}"
    assert error(tmp_path) == f"{tmp_path} cannot be read (Is a directory); {ALONE}"
    assert error(file / "x") == f"{file / 'x'} cannot be read (Not a directory); {ALONE}"


def test_an_unchanged_file_is_not_read_again(file: Path) -> None:
    credentials = FileCredentials(file)
    before = file.stat()
    file.write_text(f"  {OTHER}\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert credentials.token() == TOKEN
    assert credentials.reload() is True
    assert credentials.token() == OTHER


def test_a_kubernetes_secret_is_read_again_when_its_volume_changes(tmp_path: Path) -> None:
    """A Secret volume is a link to ..data, itself a link that is swapped for one to a new directory."""
    now = time.time_ns()
    for version, token in (("..v1", TOKEN), ("..v2", OTHER)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "token").write_text(token)
        os.utime(tmp_path / version / "token", ns=(now, now))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "token").symlink_to("..data/token")
    credentials = FileCredentials(tmp_path / "token")
    assert credentials.token() == TOKEN
    (tmp_path / "..data_tmp").symlink_to("..v2")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    assert credentials.token() == OTHER


def test_reload_returns_whether_the_token_changed(file: Path) -> None:
    credentials = FileCredentials(file)
    assert credentials.reload() is False
    file.write_text(f"{TOKEN}\n\n")
    assert credentials.reload() is False
    file.write_text(OTHER)
    assert credentials.reload() is True
    assert credentials.reload() is False
    environ = {"TOKEN": TOKEN}
    fixed = from_environment("TOKEN", environ)
    environ["TOKEN"] = OTHER
    assert (fixed.reload(), fixed.token()) == (False, TOKEN)


def test_the_last_valid_token_is_kept_and_each_kind_of_failure_is_logged_once(file: Path) -> None:
    """Until the file is valid again."""
    credentials = FileCredentials(file)
    with capture_logs() as logs:
        for _ in range(2):
            file.unlink()
            assert credentials.token() == TOKEN
            assert credentials.reload() is False
            file.touch()
            assert credentials.token() == TOKEN
            file.unlink()
            assert credentials.token() == TOKEN
            file.write_text(TOKEN)
            assert credentials.token() == TOKEN
    missing, empty = f"the file does not exist; {ALONE}", f"the file {EMPTY}"
    assert logs == [
        {"event": TOKEN_UNREADABLE, "log_level": "warning", "path": str(file), "reason": reason}
        for reason in (missing, empty, missing, empty)
    ]


@pytest.mark.parametrize(
    ("name", "called"),
    [("API_TOKEN", "the environment variable API_TOKEN"), ("aBc123", "the environment variable")],
)
def test_a_variable_that_is_not_set_is_named_unless_it_may_be_a_token(name: str, called: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_environment(name, {})
    assert caught.value.errors == (f"{called} is not set; expected the token alone in it",)


def test_credentials_are_equal_if_their_source_is(tmp_path: Path, file: Path) -> None:
    """A reload keeps the accounts that are equal."""
    other = tmp_path / "other"
    other.write_text(TOKEN)

    def make() -> list[Credentials]:
        variables = [from_environment(name, {"A": TOKEN, "B": TOKEN}) for name in "AB"]
        return [FileCredentials(file), FileCredentials(other), literal(TOKEN), literal(OTHER), *variables]

    assert make() == make()
    assert len({*make(), *make()}) == len(make())
    assert TOKEN not in repr(make())
    assert [credentials.written() for credentials in make()] == [
        {"credentials_file": str(file)},
        {"credentials_file": str(other)},
        *[{"credentials": "<secret>"}] * 2,
        {"credentials_env": "A"},
        {"credentials_env": "B"},
    ]
