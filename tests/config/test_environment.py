"""The account of a configuration without accounts."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from serving import Certificates

from exporter.config import Config, TlsConfig, load
from exporter.errors import ConfigError


TOKEN = "NjA-fake-token:1+/="

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the vendor client's file in a home directory."""

    def write(text: str) -> Path:
        path = tmp_path / ".config" / "datarobot" / "drconfig.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
        return path

    return write


def errors(environ: Mapping[str, str], path: Path | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ, {})
    assert TOKEN not in str(caught.value)
    return caught.value.errors


def given(config: Config) -> tuple[str, str, str, TlsConfig]:
    (account,) = config.accounts
    return account.name, account.endpoint, account.authorization.credentials.token(), account.tls_config


@pytest.mark.parametrize(
    ("environ", "endpoint", "source"),
    [
        (
            {"DATAROBOT_API_TOKEN": TOKEN},
            "https://app.datarobot.com/api/v2",
            "environment variable DATAROBOT_API_TOKEN",
        ),
        (
            {"DATAROBOT_API_TOKEN": TOKEN, "DATAROBOT_ENDPOINT": "https://h/api/v2"},
            "https://h/api/v2",
            "environment variables DATAROBOT_ENDPOINT, DATAROBOT_API_TOKEN",
        ),
    ],
)
def test_the_variables_are_named_as_the_source(
    environ: Mapping[str, str], endpoint: str, source: str, write: Write, tmp_path: Path
) -> None:
    """And come before the vendor client's file."""
    write("token: another\n")
    config = load(None, {**environ, "HOME": str(tmp_path)}, {})
    assert given(config) == ("default", endpoint, TOKEN, TlsConfig())
    assert config.source == source


@pytest.mark.parametrize("variable", ["HOME", "DATAROBOT_CONFIG_FILE"])
def test_the_file_of_the_vendors_client_is_read(variable: str, write: Write, tmp_path: Path) -> None:
    path = write(f"token: {TOKEN}\nendpoint: https://h/api/v2/\nmax_retries: 3\nssl_verify: false\n")
    config = load(None, {variable: str(tmp_path if variable == "HOME" else path)}, {})
    assert given(config) == ("default", "https://h/api/v2", TOKEN, TlsConfig(insecure_skip_verify=True))
    assert (config.source, config.warnings) == (str(path), ())


def test_an_authority_in_the_file_of_the_vendors_client_is_trusted(write: Write, tmp_path: Path) -> None:
    authority = Certificates(tmp_path).authority
    path = write(f"token: {TOKEN}\nssl_verify: {authority}\n")
    config = load(None, {"HOME": str(tmp_path)}, {})
    assert given(config)[1] == "https://app.datarobot.com/api/v2"
    assert given(config)[3] == TlsConfig(ca_file=authority)
    path = write(f"token: {TOKEN}\nssl_verify: {tmp_path / 'none.pem'}\n")
    (error,) = errors({"HOME": str(tmp_path)})
    assert error == f"{path}:2: ssl_verify: '{tmp_path / 'none.pem'}' does not exist; expected a PEM file"


def test_a_file_of_the_vendors_client_that_others_can_read_is_a_warning(write: Write, tmp_path: Path) -> None:
    path = write(f"token: {TOKEN}\n")
    path.chmod(0o644)
    (warning,) = load(None, {"HOME": str(tmp_path)}, {}).warnings
    assert warning.startswith(f"{path}:1: token: the token is in a file that others can read; ")


def test_errors_in_the_file_of_the_vendors_client_name_it(write: Write, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("log: {level: loud}\n")
    path = write("endpoint: h\nssl_verify: 5\n")
    assert errors({"HOME": str(tmp_path)}, config) == (
        f"{config}:1: log.level: 'loud' is not valid; expected debug, info, warning or error",
        f"{path}:1: endpoint: 'h' has no scheme; expected 'https://h'",
        f"{path}:2: ssl_verify: 5 is not valid; expected true, false or the path of a PEM file",
        f"{path}: token is missing; expected the API token in quotes",
    )
    write(f"token: '\"{TOKEN}\"'\n")
    (error,) = errors({"HOME": str(tmp_path)})
    assert error.startswith(f"{path}:1: token: the token has quotes around it; expected none")
    missing = tmp_path / "missing.yaml"
    assert errors({"DATAROBOT_CONFIG_FILE": str(missing)}) == (
        f"{missing}: the file does not exist; DATAROBOT_CONFIG_FILE names it",
    )
