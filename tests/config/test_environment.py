"""The account of a configuration without accounts."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from serving import Certificates

from exporter.config import Config, Log, Poll, State, Tasks, TlsConfig, Web, load, redacted
from exporter.errors import ConfigError


TOKEN = "NjA-fake-token:1+/="
VARIABLES = {"DATAROBOT_API_TOKEN": TOKEN}
APP = "https://app.datarobot.com/api/v2"

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
    "text", [None, "", "# nothing\n", "accounts:\npoll:\ntasks:\n  stuck_after:\nstate: ~\n"]
)
def test_without_accounts_there_is_one_with_all_defaults(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml" if text is not None else None
    if path and text is not None:
        path.write_text(text)
    config = load(path, VARIABLES, {})
    (account,) = config.accounts
    assert given(config) == ("default", APP, TOKEN, TlsConfig())
    assert (account.poll, account.tasks, account.authorization.type) == (Poll(), Tasks(), "Bearer")
    assert (config.state, config.web, config.log, config.warnings) == (State(), Web(), Log(), ())
    shown = {"type": "Bearer", "credentials_env": "DATAROBOT_API_TOKEN"}
    assert redacted(config)["accounts"][0]["authorization"] == shown


def test_the_variables_come_before_the_vendors_file_and_global_sections_apply(
    write: Write, tmp_path: Path
) -> None:
    write("token: another\n")
    file = tmp_path / "config.yaml"
    file.write_text("poll: {interval: 1m}\ntasks: {stuck_after: {RUNNING: 2h}}\n")
    environ = {**VARIABLES, "HOME": str(tmp_path)}
    assert load(None, environ, {}).source == "environment variable DATAROBOT_API_TOKEN"
    config = load(file, {**environ, "DATAROBOT_ENDPOINT": "https://h/api/v2/"}, {})
    assert config.source == "environment variables DATAROBOT_ENDPOINT, DATAROBOT_API_TOKEN"
    assert given(config) == ("default", "https://h/api/v2", TOKEN, TlsConfig())
    assert config.accounts[0].poll.interval == 60
    assert config.accounts[0].tasks.stuck_after == {"INITIALIZED": 600, "RUNNING": 7_200}


def test_errors_in_the_environment_name_the_variables() -> None:
    endpoint, token = errors({"DATAROBOT_API_TOKEN": "Bearer x", "DATAROBOT_ENDPOINT": "h"})
    assert endpoint == "DATAROBOT_ENDPOINT: 'h' has no scheme; expected 'https://h'"
    assert token.startswith("DATAROBOT_API_TOKEN: the token holds white space in its middle; expected the ")


@pytest.mark.parametrize("environ", [{}, {"DATAROBOT_API_TOKEN": ""}, {"DATAROBOT_ENDPOINT": "https://h"}])
def test_without_any_account_both_ways_to_name_one_are_shown(environ: Mapping[str, str]) -> None:
    (error,) = errors(environ)
    assert error == (
        "accounts: no account is configured; expected accounts in the configuration file, or the environment "
        "variables DATAROBOT_API_TOKEN and, unless it is app.datarobot.com, DATAROBOT_ENDPOINT"
    )


@pytest.mark.parametrize("variable", ["HOME", "DATAROBOT_CONFIG_FILE"])
def test_the_file_of_the_vendors_client_is_read(variable: str, write: Write, tmp_path: Path) -> None:
    path = write(f"token: {TOKEN}\nendpoint: https://h/api/v2/\nmax_retries: 3\nssl_verify: false\n")
    environ = {variable: str(tmp_path if variable == "HOME" else path)}
    config = load(None, environ, {})
    assert given(config) == ("default", "https://h/api/v2", TOKEN, TlsConfig(insecure_skip_verify=True))
    assert (config.source, config.warnings) == (str(path), ())
    path.chmod(0o644)
    (warning,) = load(None, environ, {}).warnings
    assert warning.startswith(f"{path}:1: token: the token is in a file that others can read; ")


def test_an_authority_in_the_file_of_the_vendors_client_is_trusted(write: Write, tmp_path: Path) -> None:
    authority = Certificates(tmp_path).authority
    path = write(f"token: {TOKEN}\nssl_verify: {authority}\n")
    config = load(None, {"HOME": str(tmp_path)}, {})
    assert given(config) == ("default", APP, TOKEN, TlsConfig(ca_file=authority))
    path = write(f"token: {TOKEN}\nssl_verify: {tmp_path / 'none.pem'}\n")
    (error,) = errors({"HOME": str(tmp_path)})
    assert (
        error == f"{path}:2: ssl_verify: '{tmp_path / 'none.pem'}' does not exist; expected an existing file"
    )


def test_errors_in_the_file_of_the_vendors_client_name_it(write: Write, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("log: {level: loud}\n")
    path = write("endpoint: h\nssl_verify: 5\n")
    assert errors({"HOME": str(tmp_path)}, config) == (
        f"{config}:1: log.level: 'loud' is not valid; expected debug, info, warning or error",
        f"{path}:1: endpoint: 'h' has no scheme; expected 'https://h'",
        f"{path}:2: ssl_verify: 5 is not valid; expected true, false or the path of a PEM file",
        f"{path}: token: is missing; expected the API token in quotes",
    )
    write(f"token: '\"{TOKEN}\"'\n")
    (error,) = errors({"HOME": str(tmp_path)})
    assert error.startswith(f"{path}:1: token: the token has quotes around it; expected none")
    missing = tmp_path / "missing.yaml"
    assert errors({"DATAROBOT_CONFIG_FILE": str(missing)}) == (
        f"{missing}: the file does not exist; DATAROBOT_CONFIG_FILE names it",
    )
