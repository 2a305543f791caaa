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


def test_surrounding_white_space_is_not_part_of_the_token(file: Path) -> None:
    assert FileCredentials(file).token() == TOKEN
    assert literal(f"\t{TOKEN} \r\n").token() == TOKEN
    assert from_environment("TOKEN", {"TOKEN": f"{TOKEN}\n"}).token() == TOKEN


def test_a_byte_order_mark_is_not_part_of_the_token(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + TOKEN.encode())
    assert FileCredentials(file).token() == TOKEN


def test_a_token_of_exactly_64_kib_is_taken(file: Path) -> None:
    file.write_text("x" * 65_536)
    assert FileCredentials(file).token() == "x" * 65_536


@pytest.mark.parametrize(
    ("content", "predicate"),
    [
        (b"", "is empty; expected the token alone"),
        (b" \n\t", "is empty; expected the token alone"),
        (b"Bearer abc", "holds white space in its middle; expected the token alone, without 'Bearer'"),
        (b"abc\ndef", "holds white space in its middle; expected the token alone, without 'Bearer'"),
        ("abcé".encode(), "holds more than printable ASCII characters; expected the token alone"),
        (b"abc\xff", "holds more than printable ASCII characters; expected the token alone"),
        (b"abc\x00def", "holds more than printable ASCII characters; expected the token alone"),
        (
            b"https://app.datarobot.com/api/v2",
            "is a URL; expected the token alone: are endpoint and token in each other's place?",
        ),
        (b'"abc"', "has quotes around it; expected none: docker --env-file keeps the quotes of a value"),
        (b"'abc'", "has quotes around it; expected none: docker --env-file keeps the quotes of a value"),
        (b"x" * 65_537, "is larger than 64 KiB; expected the token alone"),
    ],
)
def test_a_file_without_a_usable_token_is_refused(file: Path, content: bytes, predicate: str) -> None:
    file.write_bytes(content)
    assert error(file) == f"{file} {predicate}"


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, file: Path) -> None:
    expected = "expected a file that holds the token alone"
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nowhere")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert error(tmp_path / "none") == f"{tmp_path / 'none'} does not exist; {expected}"
    assert error(dangling) == f"{dangling} does not exist; {expected}"
    assert error(fifo) == f"{fifo} is not a regular file; {expected}"
    assert error(tmp_path) == f"{tmp_path} cannot be read (Is a directory); {expected}"
    assert error(file / "x") == f"{file / 'x'} cannot be read (Not a directory); {expected}"


def test_errors_name_the_file_as_asked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^the file does not exist; expected"):
        FileCredentials(tmp_path / "none", called="the file")


def test_a_file_that_changes_is_read_again(file: Path) -> None:
    credentials = FileCredentials(file)
    file.write_text(OTHER + "\n")
    assert credentials.token() == OTHER


def test_an_unchanged_file_is_not_read_again(file: Path) -> None:
    credentials = FileCredentials(file)
    before = file.stat()
    file.write_text(f"  {OTHER}\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert credentials.token() == TOKEN
    assert credentials.reload() is True
    assert credentials.token() == OTHER


def test_a_file_that_is_replaced_is_read_again(tmp_path: Path, file: Path) -> None:
    credentials = FileCredentials(file)
    replacement = tmp_path / "replacement"
    replacement.write_text(f"  {OTHER}\n")
    before = file.stat()
    os.utime(replacement, ns=(before.st_atime_ns, before.st_mtime_ns))
    replacement.replace(file)
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


def test_the_last_valid_token_is_kept_and_each_kind_of_failure_is_logged_once(file: Path) -> None:
    credentials = FileCredentials(file)
    with capture_logs() as logs:
        file.unlink()
        assert credentials.token() == TOKEN
        assert credentials.reload() is False
        file.touch()
        assert credentials.token() == TOKEN
        assert credentials.token() == TOKEN
        file.unlink()
        assert credentials.token() == TOKEN
    assert logs == [
        {"event": TOKEN_UNREADABLE, "log_level": "warning", "path": str(file), "reason": reason}
        for reason in ("missing", "empty")
    ]


def test_after_a_good_read_a_failure_is_logged_again(file: Path) -> None:
    credentials = FileCredentials(file)
    with capture_logs() as logs:
        for _ in range(2):
            file.unlink()
            assert credentials.token() == TOKEN
            file.write_text(TOKEN)
            assert credentials.token() == TOKEN
    assert [log["reason"] for log in logs] == ["missing", "missing"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("API_TOKEN", "the environment variable API_TOKEN is not set; expected the token alone in it"),
        ("aBc123", "the environment variable is not set; expected the token alone in it"),
        ("EMPTY", "the token is empty; expected the token alone"),
        ("SURROGATE", "the token holds more than printable ASCII characters; expected the token alone"),
    ],
)
def test_an_environment_variable_without_a_usable_token_is_refused(name: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_environment(name, {"EMPTY": " ", "SURROGATE": "a\udcff"})
    assert caught.value.errors == (sentence,)


@pytest.mark.parametrize(
    ("token", "predicate"),
    [
        ("", "is empty; expected the token alone"),
        ("x" * 65_537, "is larger than 64 KiB; expected the token alone"),
        ("Token abc", "holds white space in its middle; expected the token alone, without 'Bearer'"),
    ],
)
def test_an_invalid_literal_is_refused(token: str, predicate: str) -> None:
    with pytest.raises(ConfigError) as caught:
        literal(token)
    assert caught.value.errors == (f"the token {predicate}",)


def test_what_cannot_change_is_not_read_again() -> None:
    environ = {"TOKEN": TOKEN}
    credentials = from_environment("TOKEN", environ)
    environ["TOKEN"] = OTHER
    assert credentials.reload() is False
    assert credentials.token() == TOKEN


def test_credentials_are_equal_if_their_source_is(tmp_path: Path, file: Path) -> None:
    """A reload keeps the accounts that are equal."""
    other = tmp_path / "other"
    other.write_text(TOKEN)
    different: list[Credentials] = [
        FileCredentials(file),
        FileCredentials(other),
        literal(TOKEN),
        literal(OTHER),
        from_environment("A", {"A": TOKEN}),
        from_environment("B", {"B": TOKEN}),
    ]
    assert len(set(different)) == len(different)
    assert all((one == other) is (one is other) for one in different for other in different)
    assert FileCredentials(file) == FileCredentials(file)
    assert hash(FileCredentials(file)) == hash(FileCredentials(file))
    assert literal(TOKEN) == literal(TOKEN)
    assert hash(literal(TOKEN)) == hash(literal(TOKEN))


def test_no_token_is_ever_shown(file: Path) -> None:
    shown = {
        str(FileCredentials(file)): f"FileCredentials(credentials_file: {file})",
        str(from_environment("A", {"A": TOKEN})): "FixedCredentials(credentials_env: A)",
        str(literal(TOKEN)): "FixedCredentials(credentials: <secret>)",
    }
    assert list(shown) == list(shown.values())
    assert TOKEN not in "".join(shown)


def test_a_source_is_written_as_in_the_configuration(file: Path) -> None:
    assert FileCredentials(file).written() == {"credentials_file": str(file)}
    assert from_environment("A", {"A": TOKEN}).written() == {"credentials_env": "A"}
    assert literal(TOKEN).written() == {"credentials": "<secret>"}
