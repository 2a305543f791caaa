import shutil
import string
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml
from example import EXAMPLE, full_example
from hypothesis import given
from hypothesis import strategies as st
from serving import Certificates

from exporter.config import (
    Account,
    ListenAddress,
    Log,
    Poll,
    State,
    Tasks,
    TlsConfig,
    Web,
    load,
    redacted,
)
from exporter.errors import ConfigError


FILES = Path(__file__).parent
TOKEN = "NjA-fake-token:1+/="
ENVIRON = {"TOKEN": TOKEN, "EMPTY": ""}
FROM_ENVIRONMENT = {"DATAROBOT_API_TOKEN": TOKEN}

MakeFile = Callable[[str], Path]


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Writes text into a configuration file that only its owner may read."""

    def make(text: str) -> Path:
        path = tmp_path / "config.yaml"
        path.write_text(text)
        path.chmod(0o600)
        return path

    return make


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A file with every kind of value, and the certificates it names."""
    Certificates(tmp_path)
    return Path(shutil.copy(FILES / "valid-full.yaml", tmp_path))


def errors(
    path: Path | None, environ: Mapping[str, str] = ENVIRON, overrides: Mapping[str, object] | None = None
) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ, overrides or {})
    return caught.value.errors


def one_account(**keys: object) -> str:
    account = {
        "name": "a",
        "endpoint": "https://h/api/v2",
        "authorization": {"credentials_env": "TOKEN"},
        **keys,
    }
    return yaml.safe_dump({"accounts": [account]})


# Invalid input is a file and its exact messages.


@pytest.mark.parametrize("name", sorted(path.name for path in FILES.glob("invalid-*.yaml")))
def test_every_error_has_its_place_and_what_is_expected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FILES)
    found = errors(Path(name))
    assert [*found, ""] == Path(name).with_suffix(".txt").read_text().split("\n")
    assert "hidden" not in "".join(found)
    assert TOKEN not in "".join(found)


def test_every_invalid_file_has_its_message() -> None:
    assert {path.stem for path in FILES.glob("invalid-*.txt")} == {
        path.stem for path in FILES.glob("invalid-*.yaml")
    }


def test_files_that_cannot_be_read_are_named(tmp_path: Path, make_file: MakeFile) -> None:
    missing = tmp_path / "missing.yaml"
    below = make_file("") / "below.yaml"
    hint = "; name another by --config.file, or set DATAROBOT_API_TOKEN to run without a file"
    assert errors(missing) == (f"{missing}: the file does not exist{hint}",)
    assert errors(tmp_path) == (f"{tmp_path}: the file cannot be read: Is a directory",)
    assert errors(below) == (f"{below}: the file cannot be read: Not a directory",)
    assert errors(Path("a\0b")) == ("a\0b: the file cannot be read: its name is not valid",)


def test_a_file_that_is_too_large_is_refused(make_file: MakeFile) -> None:
    path = make_file("#" * (4 * 2**20 + 1))
    assert errors(path) == (f"{path}: the file is too large; expected at most 4MiB",)


def test_the_page_shows_no_messages_and_links_no_runbooks_by_default(make_file: MakeFile) -> None:
    web = load(make_file(one_account()), ENVIRON, {}).web
    assert (web.show_messages, web.runbooks_url) == (False, None)
    path = make_file(
        "web: {show_messages: true, runbooks_url: 'HTTPS://wiki.example.com/run-books/'}\n" + one_account()
    )
    web = load(path, ENVIRON, {}).web
    assert (web.show_messages, web.runbooks_url) == (True, "https://wiki.example.com/run-books")


def test_limits_by_type_replace_the_defaults_and_accounts_add_to_them(make_file: MakeFile) -> None:
    path = make_file(
        "tasks: {stuck_after_by_type: {Testing: {RUNNING: 5m}}}\n"
        + one_account(tasks={"stuck_after_by_type": {"Dataset": {"INITIALIZED": "1m"}}})
    )
    assert load(path, ENVIRON, {}).accounts[0].tasks.stuck_after_by_type == {
        "Testing": {"RUNNING": 300.0},
        "Dataset": {"INITIALIZED": 60.0},
    }
    path = make_file("tasks: {stuck_after_by_type: {}}\n" + one_account())
    assert load(path, ENVIRON, {}).accounts[0].tasks.stuck_after_by_type == {}


def test_a_relative_state_directory_starts_from_the_file(make_file: MakeFile, tmp_path: Path) -> None:
    path = make_file("state: {directory: state}\n" + one_account())
    assert load(path, ENVIRON, {}).state.directory == str(path.parent / "state")
    path = make_file(f"state: {{directory: {tmp_path}}}\n" + one_account())
    assert load(path, ENVIRON, {}).state.directory == str(tmp_path)


def test_a_byte_order_mark_is_skipped(make_file: MakeFile) -> None:
    path = make_file("")
    path.write_bytes(b"\xef\xbb\xbf" + one_account().encode())
    assert load(path, ENVIRON, {}).accounts[0].name == "a"


# The account of the environment.


@pytest.mark.parametrize(
    "name", [None, "valid-empty.yaml", "valid-comments-only.yaml", "valid-nothing-overridden.yaml"]
)
def test_without_accounts_there_is_the_one_of_the_environment(name: str | None) -> None:
    config = load(FILES / name if name else None, FROM_ENVIRONMENT, {})
    (account,) = config.accounts
    assert (account.name, account.endpoint) == ("default", "https://app.datarobot.com/api/v2")
    assert (account.poll, account.tasks, account.tls_config) == (Poll(), Tasks(), TlsConfig())
    assert (account.authorization.type, account.authorization.credentials.token()) == ("Bearer", TOKEN)
    assert (config.state, config.web, config.log, config.warnings) == (State(), Web(), Log(), ())


def test_the_account_of_the_environment_takes_its_endpoint_and_the_global_sections(
    make_file: MakeFile,
) -> None:
    path = make_file("poll: {interval: 1m}\ntasks: {stuck_after: {RUNNING: 2h}}\n")
    config = load(path, {**FROM_ENVIRONMENT, "DATAROBOT_ENDPOINT": "https://h/api/v2/"}, {})
    assert config.accounts[0].endpoint == "https://h/api/v2"
    assert config.accounts[0].poll.interval == 60
    assert config.accounts[0].tasks.stuck_after == {"INITIALIZED": 600, "RUNNING": 7_200}


def test_errors_in_the_environment_name_the_variables() -> None:
    environ = {"DATAROBOT_API_TOKEN": "Bearer x", "DATAROBOT_ENDPOINT": "h"}
    endpoint, token = errors(None, environ)
    assert endpoint == "DATAROBOT_ENDPOINT: 'h' has no scheme; expected 'https://h'"
    assert token == (
        "DATAROBOT_API_TOKEN: the token holds white space in its middle; "
        "expected the token alone, without 'Bearer'"
    )


@pytest.mark.parametrize("environ", [{}, {"DATAROBOT_API_TOKEN": ""}, {"DATAROBOT_ENDPOINT": "https://h"}])
def test_without_any_account_both_ways_to_name_one_are_shown(environ: Mapping[str, str]) -> None:
    (error,) = errors(None, environ)
    assert error == (
        "accounts: no account is configured; expected accounts in the configuration file, or the environment "
        "variables DATAROBOT_API_TOKEN and, unless it is app.datarobot.com, DATAROBOT_ENDPOINT"
    )


# Certificates, as the connections to the API read them.


def test_certificates_and_keys_are_read(make_file: MakeFile, tmp_path: Path) -> None:
    for name in ("ca", "cert", "key"):
        (tmp_path / f"{name}.pem").write_text("not PEM")
    path = make_file(one_account(tls_config={"ca_file": "ca.pem"}))
    (error,) = errors(path)
    assert error.startswith(
        f"{path}:7: accounts[0].tls_config.ca_file: {tmp_path / 'ca.pem'} cannot be used ("
    )
    path = make_file(one_account(tls_config={"cert_file": "cert.pem", "key_file": "key.pem"}))
    (error,) = errors(path)
    assert error.startswith(
        f"{path}:7: accounts[0].tls_config.cert_file: {tmp_path / 'cert.pem'} cannot be used"
    )


def test_a_certificate_of_the_environment_is_read(make_file: MakeFile, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.pem"
    environ = {**ENVIRON, "REQUESTS_CA_BUNDLE": str(bundle)}
    (error,) = errors(make_file(one_account()), environ)
    assert error.startswith(f"REQUESTS_CA_BUNDLE: {bundle} does not exist; expected ")


def test_a_state_directory_that_is_a_file_is_refused(make_file: MakeFile) -> None:
    path = make_file("state: {directory: config.yaml}\n" + one_account())
    assert errors(path) == (f"{path}:1: state.directory: '{path}' is not a directory; expected one",)


# Flags.


def test_flags_replace_values_of_the_file(make_file: MakeFile) -> None:
    path = make_file(
        "web: {listen_address: nonsense, telemetry_path: /other}\nlog: {level: error, format: json}\n"
    )
    overrides = {"web.listen_address": "localhost:1", "log.level": "debug", "log.format": None}
    config = load(path, FROM_ENVIRONMENT, overrides)
    assert config.web == Web(listen_address=ListenAddress(host="localhost", port=1), telemetry_path="/other")
    assert config.log == Log(level="debug", format="json")


def test_errors_in_flags_name_the_flag(make_file: MakeFile) -> None:
    overrides = {
        "web.listen_address": "[x]:1",
        "web.telemetry_path": "metrics",
        "web.config_file": "web.yaml",
        "web.enable_lifecycle": True,
        "log.level": "loud",
    }
    expected = "expected one that starts with '/', such as '/metrics'"
    assert errors(make_file("log: {level: 5}\n"), FROM_ENVIRONMENT, overrides) == (
        "--web.listen-address: 'x' is not a valid IPv6 address; expected one such as '[::1]:10072'",
        f"--web.telemetry-path: 'metrics' is not a valid path; {expected}",
        "--log.level: 'loud' is not valid; expected debug, info, warning or error",
        "--web.config.file: 'web.yaml' does not exist; expected a web configuration file, or none",
    )


def test_a_section_that_is_not_a_mapping_is_refused_whatever_the_flags(make_file: MakeFile) -> None:
    path = make_file("web: 5\n")
    (error,) = errors(path, FROM_ENVIRONMENT, {"web.telemetry_path": "/x"})
    assert error.startswith(
        f"{path}:1: web: expected a mapping with the keys listen_address, telemetry_path, "
    )
    assert error.endswith(", got a number")


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        (":0", "", 0),
        ("localhost:65535", "localhost", 65_535),
        ("[::1]:1", "::1", 1),
        ("0.0.0.0:1", "0.0.0.0", 1),
    ],
)
def test_addresses_to_listen_on(text: str, host: str, port: int) -> None:
    listen_address = load(None, FROM_ENVIRONMENT, {"web.listen_address": text}).web.listen_address
    assert listen_address == ListenAddress(host=host, port=port)
    assert str(listen_address) == text


# What a good file gives.


def test_every_key_of_a_file_is_read(full: Path) -> None:
    config = load(full, ENVIRON, {})
    first, second, third = config.accounts
    assert [account.name for account in config.accounts] == ["on", "007", "2024"]
    assert [account.endpoint for account in config.accounts] == [
        "https://App.datarobot.com/api/v2",
        "http://[::1]:8080/api/v2",
        "https://datarobot.example.com:8443/some/where/api/v2",
    ]
    assert [account.authorization.type for account in config.accounts] == ["Token", "Bearer", "Bearer"]
    assert first.tls_config == TlsConfig(
        ca_file=str(full.parent / "ca.pem"),
        cert_file=str(full.parent / "client.pem"),
        key_file=str(full.parent / "client.key"),
    )
    assert third.tls_config == TlsConfig(insecure_skip_verify=True)
    assert first.proxy_url == "http://user:fake-password@proxy.example.com:3128"
    assert second.proxy_url == "https://proxy.example.com/"
    assert third.proxy_url is None
    assert second.poll == third.poll
    assert first.poll == Poll(
        interval=10.0,
        timeout=10.0,
        request_timeout=5.0,
        page_size=0,
        retries=0,
        max_response_size=1024,
        stale_after=300.0,
    )
    assert config.web == Web(
        listen_address=ListenAddress(host="::1", port=0),
        telemetry_path="/",
        exemplars=False,
        grafana_url="https://grafana.example.com/d/tasks",
    )
    assert config.log == Log(level="debug", format="json")


def test_mappings_of_an_account_are_merged_into_the_global_ones_and_those_into_the_defaults(
    full: Path,
) -> None:
    first, second, _ = load(full, ENVIRON, {}).accounts
    assert second.tasks == Tasks(
        stuck_after={"INITIALIZED": 300.0, "RUNNING": 3_600.0},
        outcomes=False,
        expose_documented_types=False,
        duration_buckets=(0.1, 1.0),
    )
    assert first.tasks.stuck_after == {"INITIALIZED": 300.0, "RUNNING": 1_800.0}
    assert first.tasks.stuck_after_by_type == {
        "ManagedImageBuild": {"INITIALIZED": 1_200.0, "RUNNING": 7_200.0},
        "Dataset": {"RUNNING": 86_400.0},
    }


@pytest.mark.parametrize(
    ("status", "task_type", "seconds"),
    [
        ("RUNNING", "ManagedImageBuild", 7_200.0),
        ("INITIALIZED", "ManagedImageBuild", 600.0),
        ("RUNNING", "Dataset", 3_600.0),
    ],
)
def test_the_limit_of_a_type_replaces_the_general_one(status: str, task_type: str, seconds: float) -> None:
    assert Tasks().limit(status, task_type) == seconds


@pytest.mark.parametrize(
    ("poll", "expected"),
    [
        ({}, (30.0, 30.0, 10.0, 300.0)),
        ({"interval": "5s"}, (5.0, 5.0, 5.0, 300.0)),
        ({"interval": "1h"}, (3_600.0, 30.0, 10.0, 7_200.0)),
        ({"interval": "1h", "stale_after": "1h"}, (3_600.0, 30.0, 10.0, 3_600.0)),
        ({"timeout": "3s"}, (30.0, 3.0, 3.0, 300.0)),
        ({"interval": "100ms", "request_timeout": "50ms"}, (0.1, 0.1, 0.05, 300.0)),
    ],
)
def test_defaults_follow_what_is_given(
    poll: object, expected: tuple[float, float, float, float], make_file: MakeFile
) -> None:
    found = load(make_file(one_account(poll=poll)), ENVIRON, {}).accounts[0].poll
    assert (found.interval, found.timeout, found.request_timeout, found.stale_after) == expected


def test_aliases_and_the_tag_of_text_are_supported() -> None:
    first, second = load(FILES / "valid-aliases.yaml", ENVIRON, {}).accounts
    assert (second.name, second.endpoint) == ("b", "https://h/api/v2")
    assert first.authorization == second.authorization


def test_merge_keys_are_supported() -> None:
    first, second, third = load(FILES / "valid-merge.yaml", ENVIRON, {}).accounts
    assert (first.poll.interval, first.poll.retries) == (10.0, 1)
    assert (second.name, second.poll.interval, second.poll.retries) == ("b", 10.0, 2)
    assert (third.name, third.endpoint, third.poll) == ("c", "https://h/api/v2", first.poll)
    assert (second.tasks.outcomes, third.tasks.outcomes) == (True, False)


def test_paths_start_from_the_directory_of_the_file(tmp_path: Path, make_file: MakeFile) -> None:
    (tmp_path / "token").write_text(TOKEN)
    authority = Certificates(tmp_path).authority
    tls_config = {"ca_file": Path(authority).name}
    path = make_file(one_account(authorization={"credentials_file": "token"}, tls_config=tls_config))
    (account,) = load(path, {}, {}).accounts
    assert account.authorization.credentials.token() == TOKEN
    assert account.tls_config.ca_file == authority


def test_accounts_are_equal_unless_something_about_them_changed(make_file: MakeFile) -> None:
    def account(**keys: object) -> Account:
        return load(make_file(one_account(**keys)), ENVIRON, {}).accounts[0]

    assert account() == account(poll={}, tasks=None)
    assert account() != account(tasks={"stuck_after_by_type": {"Dataset": {"RUNNING": "1m"}}})


# Secrets.


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_token_in_a_file_that_others_can_read_is_a_warning(mode: int, make_file: MakeFile) -> None:
    path = make_file(one_account(authorization={"credentials": TOKEN}))
    path.chmod(mode)
    config = load(path, {}, {})
    assert config.accounts[0].authorization.credentials.token() == TOKEN
    (warning,) = config.warnings
    assert warning == (
        f"{path}:3: accounts[0].authorization.credentials: the token is in a file that others can read; "
        "use credentials_file, or let only the owner read the file"
    )


def test_many_tokens_in_the_file_are_one_warning(make_file: MakeFile) -> None:
    accounts = [
        {"name": f"a{index}", "endpoint": "https://h/api/v2", "authorization": {"credentials": TOKEN}}
        for index in range(40)
    ]
    path = make_file(yaml.safe_dump({"accounts": accounts}))
    path.chmod(0o644)
    (warning,) = load(path, {}, {}).warnings
    assert warning.startswith(
        f"{path}:3: accounts[0].authorization.credentials (and 39 more): the token is in"
    )


def test_an_endpoint_without_the_path_of_the_api_is_a_warning(make_file: MakeFile) -> None:
    path = make_file(one_account(endpoint="https://h"))
    (warning,) = load(path, ENVIRON, {}).warnings
    assert warning == (
        f"{path}:4: accounts[0].endpoint: the URL does not end in '/api/v2', as DataRobot's do; "
        "try 'https://h/api/v2'"
    )


def test_a_task_type_that_is_nearly_a_documented_one_is_a_warning(make_file: MakeFile) -> None:
    by_type = {"ManagedImageBiuld": {"RUNNING": "1h"}, "Dataset": {}, "OfOurOwn": {"RUNNING": "1h"}}
    path = make_file(one_account(tasks={"stuck_after_by_type": by_type}))
    (warning,) = load(path, ENVIRON, {}).warnings
    assert warning == (
        f"{path}:9: accounts[0].tasks.stuck_after_by_type.ManagedImageBiuld: "
        "did you mean the task type 'ManagedImageBuild'?"
    )


def test_a_token_in_a_file_that_only_its_owner_can_read_is_accepted(make_file: MakeFile) -> None:
    assert load(make_file(one_account(authorization={"credentials": TOKEN})), {}, {}).warnings == ()


@pytest.mark.parametrize(
    "authorization",
    [
        {"credentials": TOKEN},
        {"credentials": [TOKEN]},
        {"credentials": f"Bearer {TOKEN}"},
        {"credentials": f"{TOKEN}é"},
        {"credentials": TOKEN, "credentials_env": TOKEN},
        {"credentials": TOKEN, "credentials_file": TOKEN},
        {"credentials_env": TOKEN},
        {"credentials_file": TOKEN},
        {"credentials_file": {TOKEN: None}},
        {"type": TOKEN, "credentials": TOKEN},
        {f"credentials:{TOKEN}": None},
        {TOKEN: {TOKEN: TOKEN}},
        [TOKEN],
        TOKEN,
    ],
)
def test_no_token_is_ever_shown(authorization: object, make_file: MakeFile) -> None:
    """Neither one that works nor one in a wrong place."""
    path = make_file(one_account(authorization=authorization))
    path.chmod(0o644)
    try:
        config = load(path, {}, {})
        shown = f"{config} {config!r} {config.accounts[0].authorization} {config.warnings} {redacted(config)}"
    except ConfigError as error:
        shown = f"{error} {error!r} {''.join(traceback.format_exception(error))} {error.__context__!r}"
    assert path.name in shown
    assert TOKEN not in shown


def test_the_password_of_a_proxy_is_not_shown(full: Path) -> None:
    config = load(full, ENVIRON, {})
    proxies = [account["proxy_url"] for account in redacted(config)["accounts"]]
    assert proxies == ["http://<secret>@proxy.example.com:3128", "https://proxy.example.com/", None]
    assert "fake-password" not in f"{config}{redacted(config)}"


def test_the_running_configuration_of_the_environment_names_the_variable() -> None:
    config = load(None, FROM_ENVIRONMENT, {})
    assert redacted(config)["accounts"][0]["authorization"] == {
        "type": "Bearer",
        "credentials_env": "DATAROBOT_API_TOKEN",
    }


def test_the_running_configuration_has_the_shape_of_the_file(make_file: MakeFile, full: Path) -> None:
    """What is shown can be loaded again, and gives the same."""
    text = full.read_text().replace("user:fake-password@", "")
    config = load(make_file(text), ENVIRON, {})
    assert load(make_file(yaml.safe_dump(redacted(config), sort_keys=False)), ENVIRON, {}) == config


# The example.


def keys(plain: object, path: str = "") -> set[str]:
    if isinstance(plain, dict):
        return {path}.union(*(keys(value, f"{path}.{key}") for key, value in plain.items()))
    if isinstance(plain, list) and plain and isinstance(plain[0], dict):
        return {path}.union(*(keys(value, path) for value in plain))
    return {path}


@pytest.mark.parametrize("text", [EXAMPLE.read_text(), full_example()], ids=["as it is", "every key"])
def test_the_example_gives_the_defaults(text: str, make_file: MakeFile, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    path = make_file(text.replace("/run/secrets/datarobot-token", "token"))
    config = load(path, {}, {})
    (account,) = config.accounts
    assert account == Account(
        name="production",
        endpoint="https://app.datarobot.com/api/v2",
        authorization=account.authorization,
    )
    assert account.authorization.type == "Bearer"
    assert (config.state, config.web, config.log, config.warnings) == (State(), Web(), Log(), ())
    assert (config.source, config.file) == (str(path), str(path))


def test_the_example_has_every_key(make_file: MakeFile, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    text = full_example().replace("/run/secrets/datarobot-token", "token")
    example = yaml.safe_load(text)
    example["accounts"][0] |= {"poll": example.pop("poll"), "tasks": example.pop("tasks")}
    authorization = example["accounts"][0]["authorization"]
    assert list(authorization) == ["type", "credentials_file", "credentials_env", "credentials"]
    del authorization["credentials_env"], authorization["credentials"]
    assert keys(example) == keys(redacted(load(make_file(text), {}, {})))


# Whatever is in the file.

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.binary(max_size=8)
    | st.text(max_size=8)
    | st.sampled_from(["30s", "0", "https://h", "TOKEN", ":1", "/x", "1e400", "token"])
)
KEYS = st.sampled_from(
    [
        *("accounts", "poll", "tasks", "state", "web", "log", "name", "endpoint", "authorization", "type"),
        *("credentials", "credentials_env", "credentials_file", "tls_config", "proxy_url", "interval"),
        *("timeout", "stale_after", "page_size", "stuck_after", "RUNNING", "duration_buckets", "ca_file"),
        *("listen_address", "level", "stuck_after_by_type", "key_file"),
    ]
)
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | SCALARS, inner, max_size=4),
    max_leaves=15,
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "config.yaml"


def is_accepted_or_refused(path: Path) -> bool:
    try:
        config = load(path, ENVIRON | FROM_ENVIRONMENT, {})
    except ConfigError as error:
        return all(sentence.startswith(str(path)) for sentence in error.errors) and bool(error.errors)
    yaml.safe_dump(redacted(config))
    return True


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("&*!|>-?:,[]{}#'\"%@\n\t  aA0~=")))
def test_any_text_is_accepted_or_refused(scratch: Path, text: str) -> None:
    scratch.write_text(text)
    assert is_accepted_or_refused(scratch)


@given(st.binary(max_size=64))
def test_any_bytes_are_accepted_or_refused(scratch: Path, content: bytes) -> None:
    scratch.write_bytes(content)
    assert is_accepted_or_refused(scratch)


@given(st.dictionaries(KEYS | SCALARS, DATA, max_size=5) | DATA)
def test_any_data_is_accepted_or_refused(scratch: Path, data: object) -> None:
    scratch.write_text(yaml.safe_dump(data))
    assert is_accepted_or_refused(scratch)


@given(DATA, DATA, DATA)
def test_any_account_is_accepted_or_refused(scratch: Path, poll: object, tasks: object, tls: object) -> None:
    scratch.write_text(one_account(poll=poll, tasks=tasks, tls_config=tls))
    assert is_accepted_or_refused(scratch)


@given(DATA, DATA, st.text(alphabet=string.printable, max_size=8))
def test_any_flag_is_accepted_or_refused(listen: object, level: object, path: str) -> None:
    overrides = {"web.listen_address": listen, "log.level": level, "web.telemetry_path": path}
    try:
        load(None, FROM_ENVIRONMENT, overrides)
        sources = {"--"}
    except ConfigError as error:
        sources = {sentence[:2] for sentence in error.errors}
    assert sources == {"--"}
