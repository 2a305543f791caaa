import shutil
import string
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from example import EXAMPLE, full_example
from hypothesis import given
from hypothesis import strategies as st
from serving import Certificates

from exporter.config import (
    Account,
    Config,
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
from exporter.config.authorization import AuthorizationSection
from exporter.errors import ConfigError


FILES = Path(__file__).parent
TOKEN = "NjA-fake-token:1+/="
ENVIRON = {"TOKEN": TOKEN, "EMPTY": ""}
FROM_ENVIRONMENT = {"DATAROBOT_API_TOKEN": TOKEN}

# Aliases of aliases, nine times nine of them.
LAUGHS = "a0: &a0 x\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(9))
MERGES = f"a: &a {{{', '.join(map('k{}: 1'.format, range(101)))}}}\nb: {{<<: [{', '.join(['*a'] * 1_000)}]}}"

MakeFile = Callable[[str | bytes], Path]


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Writes text into a configuration file that only its owner may read."""

    def make(text: str | bytes) -> Path:
        path = tmp_path / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
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


# Invalid input: a file with the exact messages beside it, or YAML that cannot be read and its one message.


@pytest.mark.parametrize("name", ["invalid-accounts.yaml", "invalid-sections.yaml"])
def test_all_errors_of_a_file_are_reported_with_place_and_expectation(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FILES)
    found = errors(Path(name))
    assert [*found, ""] == Path(name).with_suffix(".txt").read_text().split("\n")
    assert "hidden" not in "".join(found)
    assert TOKEN not in "".join(found)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("log: {level: info}", ": accounts: no account is configured; expected accounts in the conf"),
        ("accounts: {name: a}", ":1: accounts: expected a list, got a mapping"),
        ("acounts: []", ":1: the key 'acounts' is unknown; did you mean 'accounts'? expected one of"),
        ("hidden", ": expected a mapping with keys such as accounts, poll, tasks"),
        ("accounts: *hidden", ":1:11: YAML: found undefined alias '…'"),
        ("a: {b: c", ":1:9: YAML: while parsing a flow mapping, expected ',' or '}', but got '<stream end>'"),
        ("accounts:\n  - name: a\n   endpoint: b", ":3:4: YAML: check the indentation of line 3"),
        ("a: b\n  c: d", ":2:4: YAML: check the indentation of line 2, or put the value in quotes: it hold"),
        ("a:\n\t- b", ":2:1: YAML: check the indentation of line 2: it holds a tab; expected spaces"),
        ("a: 1\n---\nb: 2", ":2:1: YAML: expected a single document in the stream, but found another"),
        ("a:\n  b: \x01", ":2: YAML: a control character is not allowed here"),
        ('a: "b\\0c"', ":1:4: YAML: expected text without NULs"),
        ("? [a, b]\n: 1", ":1:3: YAML: expected text without NULs"),
        ("a: !!python/object:os.system x", ":1:4: YAML: could not determine a constructor for the tag '…'"),
        ("a: &a [*a]", ":1:4: YAML: found unconstructable recursive node"),
        ("a: {<<: 5}", ":1:5: YAML: the merge key '<<' expects a mapping, or a list of mappings"),
        ("[" * 500, ": YAML: nested too deeply"),
        (LAUGHS, ": the file holds too many values; expected at most 100000"),
        (MERGES, ":2:5: YAML: too many merged keys"),
        ("#" * (4 * 2**20 + 1), ": the file is too large; expected at most 4MiB"),
        (b"log:\n  level: caf\xe9", ":2: the file is not UTF-8 text"),
    ],
)
def test_a_file_that_is_not_valid_yaml_is_refused(text: str | bytes, error: str, make_file: MakeFile) -> None:
    path = make_file(text)
    (found,) = errors(path)
    assert found.startswith(f"{path}{error}")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("interval: .nan", "interval: '.nan' is not a duration; expected a number with a unit, such as"),
        ("interval: 1:30", "interval: '1:30' is not a duration; expected a number with a unit, such as"),
        ("timeout: true", "timeout: true is not valid; expected a duration above 0, such as '30s'"),
        ("timeout: {}", "timeout: a mapping is not valid; expected a duration above 0, such as '30s'"),
        ("page_size: -1", "page_size: -1 is not valid; expected a whole number, 0 or more"),
        ("page_size: 0x10", "page_size: '0x10' is not valid; expected a whole number, 0 or more"),
    ],
)
def test_a_value_is_shown_as_the_file_has_it(text: str, error: str, make_file: MakeFile) -> None:
    path = make_file(f"poll: {{{text}}}\n" + one_account())
    (found,) = errors(path)
    assert found.startswith(f"{path}:1: poll.{error}")


def test_files_that_cannot_be_read_are_named(tmp_path: Path, make_file: MakeFile) -> None:
    missing = tmp_path / "missing.yaml"
    below = make_file("") / "below.yaml"
    hint = "; name another by --config.file, or set DATAROBOT_API_TOKEN to run without a file"
    assert errors(missing) == (f"{missing}: the file does not exist{hint}",)
    assert errors(tmp_path) == (f"{tmp_path}: the file cannot be read: Is a directory",)
    assert errors(below) == (f"{below}: the file cannot be read: Not a directory",)
    assert errors(Path("a\0b")) == ("a\0b: the file cannot be read: its name is not valid",)


def test_files_that_the_configuration_and_the_environment_name_are_read(
    make_file: MakeFile, tmp_path: Path
) -> None:
    path, bundle = make_file("state: {directory: config.yaml}\n" + one_account()), tmp_path / "bundle.pem"
    assert errors(path) == (f"{path}:1: state.directory: '{path}' is not a directory; expected one",)
    (error,) = errors(make_file(one_account()), {**ENVIRON, "REQUESTS_CA_BUNDLE": str(bundle)})
    assert error.startswith(f"REQUESTS_CA_BUNDLE: {bundle} does not exist; expected ")


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
    path = make_file("log: {level: 5, format: x}\nstate: 5\n")
    overrides = {"web.config_file": "web.yaml", "web.enable_lifecycle": True, "log.level": "loud"}
    assert errors(path, FROM_ENVIRONMENT, {**overrides, "state.directory": "x"}) == (
        f"{path}:1: log.format: 'x' is not valid; expected logfmt, json or console",
        f"{path}:2: state: expected a mapping with the keys directory, got a number",
        f"--web.config.file: '{Path('web.yaml').absolute()}' does not exist; expected an existing file",
        "--log.level: 'loud' is not valid; expected debug, info, warning or error",
    )
    (empty,) = errors(None, FROM_ENVIRONMENT, {"web.config_file": ""})
    assert empty == "--web.config.file: '' is not valid; expected the path of a file"


# What a good file gives.


def test_every_key_of_a_file_is_read_with_aliases_and_merge_keys(full: Path) -> None:
    config = load(full, ENVIRON, {})
    first, second, third = config.accounts
    assert [(account.name, account.endpoint) for account in config.accounts] == [
        ("on", "https://App.datarobot.com/api/v2"),
        ("007", "http://[::1]:8080/api/v2"),
        ("2024", "https://datarobot.example.com:8443/some/where/api/v2"),
    ]
    assert (first.authorization.type, first.authorization.credentials.token()) == ("Token", TOKEN)
    assert first.authorization == second.authorization == third.authorization
    paths = {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key"}
    tls_config = TlsConfig.model_validate({key: str(full.parent / name) for key, name in paths.items()})
    assert (first.tls_config, third.tls_config) == (tls_config, TlsConfig(insecure_skip_verify=True))
    proxies = ["http://user:fake-password@proxy.example.com:3128", "https://proxy.example.com/", None]
    assert [account.proxy_url for account in config.accounts] == proxies
    poll = Poll(
        interval=10, request_timeout=5, stale_after=300, page_size=0, retries=1, max_response_size=1024
    )
    assert first.poll == third.poll == poll
    assert second.poll == poll.model_copy(update={"retries": 2})
    tasks = Tasks(outcomes=False, expose_documented_types=False, duration_buckets=(0.1, 1.0))
    assert first.tasks == second.tasks == tasks
    assert third.tasks == tasks.model_copy(update={"outcomes": True})
    listen_address, grafana_url = ListenAddress(host="::1", port=0), "https://grafana.example.com/d/tasks"
    assert config.web == Web(
        listen_address=listen_address, telemetry_path="/", exemplars=False, grafana_url=grafana_url
    )
    assert config.log == Log(level="debug", format="json")
    assert config.state == State(directory=str(full.parent / "state"))


BUILD, DATASET = {"ManagedImageBuild": {"RUNNING": 7_200}}, {"Dataset": {"RUNNING": 86_400}}
TESTING = "stuck_after: {INITIALIZED: 5m}, stuck_after_by_type: {Testing: {RUNNING: 5m}}"


@pytest.mark.parametrize(
    ("general", "own", "stuck_after", "by_type"),
    [
        ("", {"stuck_after_by_type": {"Dataset": {"RUNNING": "1d"}}}, (600, 3_600), BUILD | DATASET),
        ("stuck_after_by_type: {}", {}, (600, 3_600), {}),
        (TESTING, {"stuck_after": {"RUNNING": "30m"}}, (300, 1_800), {"Testing": {"RUNNING": 300}}),
        (
            TESTING,
            {"stuck_after_by_type": {"Testing": {"INITIALIZED": "1m"}, "Dataset": {"RUNNING": "1d"}}},
            (300, 3_600),
            {"Testing": {"INITIALIZED": 60, "RUNNING": 300}, **DATASET},
        ),
    ],
)
def test_limits_of_an_account_are_merged_into_the_global_ones_and_those_into_the_defaults(
    general: str, own: object, stuck_after: tuple[float, float], by_type: Any, make_file: MakeFile
) -> None:
    path = make_file(f"tasks: {{{general}}}\n" + one_account(tasks=own))
    tasks = load(path, ENVIRON, {}).accounts[0].tasks
    assert (tuple(tasks.stuck_after.values()), tasks.stuck_after_by_type) == (stuck_after, by_type)
    assert tasks.limit("RUNNING", "other") == stuck_after[1]
    assert all(
        tasks.limit(status, name) == by_type[name][status] for name in by_type for status in by_type[name]
    )


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


def test_paths_start_from_the_directory_of_the_file(tmp_path: Path, make_file: MakeFile) -> None:
    (tmp_path / "token").write_text(TOKEN)
    text = one_account(authorization={"credentials_file": "token"})
    path = make_file(b"\xef\xbb\xbf" + text.encode())  # with a byte order mark
    assert load(path, {}, {}).accounts[0].authorization.credentials.token() == TOKEN


# Warnings.

EXPOSED = "the token is in a file that others can read; use credentials_file, or let only the owner read it"
NO_PATH = "the URL does not end in '/api/v2', as DataRobot's do; try 'https://h/api/v2'"
MEANT = "ManagedImageBiuld: did you mean the task type 'ManagedImageBuild'?"
NEARLY = {"ManagedImageBiuld": {"RUNNING": "1h"}, "Dataset": {}, "OfOurOwn": {"RUNNING": "1h"}}


@pytest.mark.parametrize(
    ("account", "warning"),
    [
        ({"authorization": {"credentials": TOKEN}}, f":3: accounts[0].authorization.credentials: {EXPOSED}"),
        ({"endpoint": "https://h"}, f":4: accounts[0].endpoint: {NO_PATH}"),
        ({"tasks": {"stuck_after_by_type": NEARLY}}, f":9: accounts[0].tasks.stuck_after_by_type.{MEANT}"),
    ],
)
def test_what_is_probably_wrong_is_a_warning(
    account: dict[str, object], warning: str, make_file: MakeFile
) -> None:
    path = make_file(one_account(**account))
    for mode in (0o640, 0o604):
        path.chmod(mode)
        assert load(path, ENVIRON, {}).warnings == (f"{path}{warning}",)
    path.chmod(0o600)
    assert load(path, ENVIRON, {}).warnings == (() if "authorization" in account else (f"{path}{warning}",))


def test_many_warnings_of_a_kind_are_one(make_file: MakeFile) -> None:
    account = {"endpoint": "https://h/api/v2", "authorization": {"credentials": TOKEN}}
    path = make_file(
        yaml.safe_dump({"accounts": [{**account, "name": f"a{number}"} for number in range(40)]})
    )
    path.chmod(0o644)
    (warning,) = load(path, {}, {}).warnings
    assert warning == f"{path}:3: accounts[0].authorization.credentials (and 39 more): {EXPOSED}"


# Secrets, and the running configuration.


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


def test_the_running_configuration_has_the_shape_of_the_file(make_file: MakeFile, full: Path) -> None:
    """What is shown can be loaded again, and gives the same; but the password of a proxy is not shown."""
    shown = redacted(load(full, ENVIRON, {}))
    assert shown["accounts"][0]["proxy_url"] == "http://<secret>@proxy.example.com:3128"
    assert "fake-password" not in str(shown)
    text = full.read_text().replace("user:fake-password@", "")
    config = load(make_file(text), ENVIRON, {})
    assert load(make_file(yaml.safe_dump(redacted(config), sort_keys=False)), ENVIRON, {}) == config


# The example.


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


# Whatever is in the file.

WORDS = st.sampled_from(["30s", "0", "https://h", "TOKEN", ":1", "/x", "1e400", "token"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.dates() | st.text(max_size=8) | WORDS
SECTIONS = (Config, Account, AuthorizationSection, TlsConfig, Poll, Tasks, State, Web, Log)
KEYS = st.sampled_from([key for section in SECTIONS for key in section.model_fields])
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | SCALARS, inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "config.yaml"


@given(
    st.binary(max_size=64)
    | st.text("&*!|>-?:,[]{}#'\"%@\n\t  aA0~=é").map(str.encode)
    | st.dictionaries(KEYS | SCALARS, DATA, max_size=5).map(yaml.safe_dump).map(str.encode)
    | st.dictionaries(st.sampled_from(["poll", "tasks", "tls_config"]), DATA).map(
        lambda keys: one_account(**keys).encode()
    )
)
def test_any_file_is_accepted_or_refused(scratch: Path, content: bytes) -> None:
    scratch.write_bytes(content)
    try:
        config = load(scratch, ENVIRON | FROM_ENVIRONMENT, {})
        found = {yaml.safe_dump(redacted(config)).startswith("accounts:")}
    except ConfigError as error:
        found = {sentence.startswith(str(scratch)) for sentence in error.errors}
    assert found == {True}


@given(DATA, DATA, st.text(string.printable, max_size=8))
def test_any_flag_is_accepted_or_refused(listen: object, level: object, path: str) -> None:
    overrides = {"web.listen_address": listen, "log.level": level, "web.telemetry_path": path}
    try:
        found = {load(None, FROM_ENVIRONMENT, overrides) and "--"}
    except ConfigError as error:
        found = {sentence[:2] for sentence in error.errors}
    assert found == {"--"}
