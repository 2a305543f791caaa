"""The sections of the configuration: every key with its type, its bounds and its default."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Annotated, Final

from msgspec import Meta, Struct, field

from exporter.config.addresses import (
    ListenAddress,
    parse_endpoint,
    parse_listen_address,
    parse_proxy_url,
    parse_runbooks_url,
    parse_telemetry_path,
    without_user,
)
from exporter.config.credentials import Credentials
from exporter.config.schema import Spelling
from exporter.config.units import format_duration, format_size, parse_duration, parse_size, quoted


_NAME: Final = re.compile("[A-Za-z0-9_.-]{1,64}")


def _parse_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{quoted(text)} is no name; expected 1 to 64 letters, digits, dots, dashes or _")
    return text


def _parse_choice(text: str, *, choices: tuple[str, ...], secret: bool = False) -> str:
    """Find a word among some, without regard to case."""
    for choice in choices:
        if text.lower() == choice.lower():
            return choice
    named = "the value" if secret else quoted(text)
    raise ValueError(f"{named} is not known; expected {', '.join(choices[:-1])} or {choices[-1]}")


_parse_type: Final = partial(_parse_choice, choices=("Bearer", "Token"), secret=True)
_parse_level: Final = partial(_parse_choice, choices=("debug", "info", "warning", "error"))
_parse_format: Final = partial(_parse_choice, choices=("logfmt", "json", "console"))

_DURATION: Final = {"spelling": Spelling(parse_duration, format_duration)}
_SIZE: Final = {"spelling": Spelling(parse_size, format_size)}

Duration = Annotated[float, Meta(gt=0, description="a duration above 0, such as 30s", extra=_DURATION)]
Interval = Annotated[float, Meta(ge=0.1, description="a duration of at least 100ms", extra=_DURATION)]
Size = Annotated[int, Meta(ge=1024, description="a size of at least 1KiB", extra=_SIZE)]
Count = Annotated[int, Meta(ge=0, description="a whole number, 0 or more")]
Number = Annotated[int, Meta(ge=1, description="a whole number, 1 or more")]
Switch = Annotated[bool, Meta(description="true or false")]
Path = Annotated[str, Meta(min_length=1, description="the path of a file")]
Directory = Annotated[str, Meta(min_length=1, description="the path of a directory")]
Name = Annotated[
    str,
    Meta(description="1 to 64 letters, digits, dots, dashes or _", extra={"spelling": Spelling(_parse_name)}),
]
Endpoint = Annotated[
    str,
    Meta(description="the URL of DataRobot's API", extra={"spelling": Spelling(parse_endpoint)}),
]
ProxyUrl = Annotated[
    str,
    Meta(description="the URL of a proxy", extra={"spelling": Spelling(parse_proxy_url, without_user)}),
]
Listen = Annotated[
    ListenAddress,
    Meta(description="an address such as :10072", extra={"spelling": Spelling(parse_listen_address)}),
]
TelemetryPath = Annotated[
    str, Meta(description="a path such as /metrics", extra={"spelling": Spelling(parse_telemetry_path)})
]
RunbooksUrl = Annotated[
    str,
    Meta(description="the URL of the runbooks", extra={"spelling": Spelling(parse_runbooks_url)}),
]
GrafanaUrl = Annotated[
    str,
    Meta(description="the URL of the dashboard", extra={"spelling": Spelling(parse_runbooks_url)}),
]
AuthorizationType = Annotated[
    str, Meta(description="Bearer or Token", extra={"spelling": Spelling(_parse_type), "secret": True})
]
Level = Annotated[str, Meta(description="a level such as info", extra={"spelling": Spelling(_parse_level)})]
Format = Annotated[
    str, Meta(description="a format such as json", extra={"spelling": Spelling(_parse_format)})
]
Limits = Annotated[Mapping[str, Duration], Meta(extra={"keys": ("INITIALIZED", "RUNNING")})]


class Poll(Struct, frozen=True, kw_only=True):
    """How an account is polled. Durations are in seconds, sizes in bytes.

    Attributes:
        timeout: One whole poll, retries included; at most the interval.
        request_timeout: One attempt, from connecting to the last byte; at most the timeout.
        page_size: Tasks per page; 0 asks for all at once.
        max_response_size: Of one answer.
        retries: Of one request, within the poll's timeout.
        stale_after: Age at which the last complete listing is withdrawn; at least the interval.
    """

    interval: Interval = 30.0
    timeout: Duration = 30.0
    request_timeout: Duration = 10.0
    page_size: Count = 1000
    max_response_size: Size = 64 * 2**20
    retries: Count = 3
    stale_after: Duration = 300.0


class Tasks(Struct, frozen=True, kw_only=True):
    """What is made of an account's tasks. Durations are in seconds.

    Attributes:
        stuck_after: Age above which an open task is stuck, by status (INITIALIZED, RUNNING).
        stuck_after_by_type: The same for single task types; statuses left out are as above.
        max_types: Different task types kept before they fold into one.
        outcomes: Whether vanished tasks are looked up.
        outcome_lookups_per_poll: At most so many.
        duration_buckets: Upper bounds, ascending.
    """

    stuck_after: Limits = field(default_factory=lambda: {"INITIALIZED": 600.0, "RUNNING": 3_600.0})
    stuck_after_by_type: Mapping[str, Limits] = field(
        default_factory=lambda: {"ManagedImageBuild": {"RUNNING": 7_200.0}}
    )
    max_types: Number = 100
    outcomes: Switch = True
    outcome_lookups_per_poll: Count = 50
    duration_buckets: tuple[Duration, ...] = (
        *(5.0, 15.0, 30.0, 60.0, 120.0, 300.0),
        *(600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0),
    )

    def limit(self, status: str, task_type: str) -> float:
        """Say after how many seconds a task is stuck.

        Args:
            status: INITIALIZED or RUNNING.
            task_type: As the API spells it.
        """
        of_type = self.stuck_after_by_type.get(task_type, {})
        return of_type.get(status, self.stuck_after[status])


class TlsConfig(Struct, frozen=True, kw_only=True):
    """How an account's server is known, and how we are known to it; paths of PEM files."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    insecure_skip_verify: Switch = False


class Authorization(Struct, frozen=True, kw_only=True):
    """The `Authorization` header of all requests.

    Attributes:
        type: Bearer or Token.
        credentials: Where the token comes from.
    """

    type: str
    credentials: Credentials


class AuthorizationSection(Struct, frozen=True, kw_only=True):
    """The same as the file holds it: one of the three sources is given."""

    type: AuthorizationType = "Bearer"
    credentials_file: (
        Annotated[str, Meta(min_length=1, description="a path", extra={"secret": True})] | None
    ) = None
    credentials_env: (
        Annotated[
            str,
            Meta(
                pattern="^[A-Za-z_][A-Za-z0-9_]*$",
                description="the name of an environment variable",
                extra={"secret": True},
            ),
        ]
        | None
    ) = None
    credentials: Annotated[str, Meta(description="the token in quotes", extra={"secret": True})] | None = None


class _AccountKeys(Struct, frozen=True, kw_only=True):
    """What an account and its section in the file have in common."""

    name: Name
    endpoint: Endpoint
    tls_config: TlsConfig = TlsConfig()
    proxy_url: ProxyUrl | None = None
    poll: Poll = Poll()
    tasks: Tasks = field(default_factory=Tasks)


class Account(_AccountKeys, frozen=True, kw_only=True):
    """One DataRobot account; two are equal if nothing about them changed.

    Attributes:
        name: Value of the label `account`.
        endpoint: Without slash at its end.
        proxy_url: None for the usual `*_PROXY` variables.
        poll: The account's overrides, the global section and the defaults, merged.
        tasks: Likewise.
    """

    authorization: Authorization

    def __repr__(self) -> str:
        # The proxy's URL may hold a password.
        return f"{type(self).__name__}({self.name})"


class AccountSection(_AccountKeys, frozen=True, kw_only=True):
    """An account as the file holds it."""

    authorization: AuthorizationSection


class State(Struct, frozen=True, kw_only=True):
    """What survives a restart."""

    directory: Directory | None = None


class Web(Struct, frozen=True, kw_only=True):
    """The exporter's own endpoint.

    Attributes:
        show_messages: Whether the status page shows what the API says of single tasks.
        runbooks_url: Where the runbooks are published, without slash at its end; None for nowhere.
        grafana_url: The dashboard that the status page links to.
    """

    listen_address: Listen = ListenAddress(host="", port=10072)
    telemetry_path: TelemetryPath = "/metrics"
    config_file: Path | None = None
    enable_lifecycle: Switch = False
    show_messages: Switch = False
    runbooks_url: RunbooksUrl | None = None
    grafana_url: GrafanaUrl | None = None


class Log(Struct, frozen=True, kw_only=True):
    """The exporter's log."""

    level: Level = "info"
    format: Format = "logfmt"
