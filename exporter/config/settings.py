"""The sections of the configuration: every key with its type and its default."""

import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from exporter.config.addresses import ListenAddress
from exporter.config.authorization import TOKEN_FILE_KEYS, TOKEN_KEYS, AnyAuthorization
from exporter.config.sections import Leaf, Section, choice, invalid, nothing
from exporter.config.trust import TlsConfig
from exporter.config.units import format_duration, quoted
from exporter.config.values import (
    Count,
    Directory,
    Duration,
    Endpoint,
    ExistingFile,
    Interval,
    Link,
    Listen,
    Number,
    ProxyUrl,
    Size,
    Switch,
    TelemetryPath,
)


DEFAULT_BY_TYPE: Final[Mapping[str, Mapping[str, float]]] = {"ManagedImageBuild": {"RUNNING": 7_200.0}}

_NAME: Final = re.compile("[A-Za-z0-9_.-]{1,64}")
_NAME_EXPECTED: Final = "1 to 64 letters, digits, dots, dashes or underscores"
_NO_LONGER_THAN: Final = {"timeout": "interval", "request_timeout": "timeout"}
_CREDENTIALS: Final = "authorization: {credentials: …}"
_CREDENTIALS_FILE: Final = "authorization: {credentials_file: …}"


def _parse_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a valid name; expected {_NAME_EXPECTED}")
    return text


def _spelled(duration: float) -> str:
    return quoted(format_duration(duration))


class Poll(Section):
    """How an account is polled.

    Attributes:
        interval: From the start of one poll to the start of the next.
        timeout: One whole poll, retries included; at most the interval.
        request_timeout: One attempt, from connect to the last byte; at most the timeout.
        stale_after: Age at which the last complete listing is withdrawn; at least the interval.
        page_size: Tasks per page; 0 asks for all at once.
        max_response_size: Of one response.
        retries: Of one request, within the timeout.
    """

    interval: Interval = 30.0
    timeout: Duration = Field(default_factory=lambda given: min(30.0, given["interval"]))
    request_timeout: Duration = Field(default_factory=lambda given: min(10.0, given["timeout"]))
    stale_after: Duration = Field(default_factory=lambda given: max(300.0, 2 * given["interval"]))
    page_size: Count = 1000
    max_response_size: Size = 64 * 2**20
    retries: Count = 3

    @field_validator("timeout", "request_timeout")
    @classmethod
    def _is_short(cls, value: float, info: ValidationInfo) -> float:
        key, other = str(info.field_name), _NO_LONGER_THAN[str(info.field_name)]
        limit = info.data.get(other, value)
        if value > limit:
            found = f"{key} {_spelled(value)} is longer than {other} {_spelled(limit)}"
            raise ValueError(f"{found}; expected at most the {other}")
        return value

    @field_validator("stale_after")
    @classmethod
    def _is_long(cls, value: float, info: ValidationInfo) -> float:
        limit = info.data.get("interval", value)
        if value < limit:
            found = f"stale_after {_spelled(value)} is shorter than interval {_spelled(limit)}"
            raise ValueError(f"{found}; expected at least the interval")
        return value


class Limits(Section):
    """Age above which an open task is stuck, by status."""

    INITIALIZED: Duration = 600.0
    RUNNING: Duration = 3_600.0


def _given_limits(value: object, info: ValidationInfo) -> Mapping[str, float]:
    limits = Limits.model_validate(value, context=info.context)
    return {status: limit for status, limit in limits if status in limits.model_fields_set}


def _all_limits(value: object, info: ValidationInfo) -> Mapping[str, float]:
    return dict(Limits.model_validate(value, context=info.context))


def _increasing(buckets: tuple[float, ...]) -> tuple[float, ...]:
    if not buckets:
        raise ValueError("the list is empty; expected at least one duration")
    expected = "expected durations that increase"
    problems = [
        ((index,), ValueError(f"{_spelled(after)} is not above {_spelled(before)}; {expected}"))
        for index, (before, after) in enumerate(pairwise(buckets), 1)
        if before >= after
    ]
    if problems:
        raise invalid(problems)
    return buckets


class Tasks(Section):
    """How an account's tasks are counted.

    Attributes:
        stuck_after: Age above which an open task is stuck, by status (INITIALIZED, RUNNING).
        stuck_after_by_type: The same for single task types; statuses left out are as above.
        max_types: Different task types kept before they count as one.
        expose_documented_types: Whether documented types have series before one was seen.
        outcomes: Whether vanished tasks are looked up.
        outcome_lookups_per_poll: At most so many.
        duration_buckets: Upper bounds, increasing.
    """

    stuck_after: Annotated[
        Mapping[str, Duration], BeforeValidator(_all_limits, json_schema_input_type=Limits)
    ] = Field(default_factory=lambda: dict(Limits()))
    stuck_after_by_type: Annotated[
        Mapping[
            str,
            Annotated[Mapping[str, Duration], BeforeValidator(_given_limits, json_schema_input_type=Limits)],
        ],
        nothing({}, dict[str, Limits]),
    ] = DEFAULT_BY_TYPE
    max_types: Number = 100
    expose_documented_types: Switch = True
    outcomes: Switch = True
    outcome_lookups_per_poll: Count = 50
    duration_buckets: Annotated[tuple[Duration, ...], AfterValidator(_increasing)] = (
        *(5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0),
    )

    def limit(self, status: str, task_type: str) -> float:
        """Return the age in seconds above which a task is stuck.

        Args:
            status: INITIALIZED or RUNNING.
            task_type: As the API spells it.
        """
        return self.stuck_after_by_type.get(task_type, {}).get(status, self.stuck_after[status])


class Account(Section):
    """One DataRobot account; two are equal if nothing about them changed.

    Attributes:
        name: Value of the label `account`.
        endpoint: Without slash at its end.
        proxy_url: None for the usual `*_PROXY` variables.
        poll: The account's overrides, the global section and the defaults, merged; so for `tasks`.
    """

    hints: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys(("credentials", *TOKEN_KEYS), _CREDENTIALS),
        **dict.fromkeys(("credentials_file", *TOKEN_FILE_KEYS), _CREDENTIALS_FILE),
        **dict.fromkeys(("url", "base_url", "host", "address"), "endpoint"),
    }

    name: Annotated[str, Leaf(_NAME_EXPECTED, _parse_name, json={"type": ["string", "integer"]})]
    endpoint: Endpoint
    authorization: AnyAuthorization
    tls_config: TlsConfig = TlsConfig()
    proxy_url: ProxyUrl | None = Field(default=None, repr=False)  # it may hold a password
    poll: Poll = Poll()
    tasks: Tasks = Tasks()


class State(Section):
    """What survives a restart."""

    directory: Directory | None = None


class Web(Section):
    """The endpoint that Prometheus scrapes.

    Attributes:
        config_file: Web configuration file of the Prometheus exporter toolkit.
        exemplars: Whether OpenMetrics has the ids of finished tasks as exemplars.
        show_messages: Whether the status page shows what the API says of single tasks.
        runbooks_url: Where the runbooks are published, without slash at its end; None for nowhere.
        grafana_url: The dashboard that the status page links to.
    """

    listen_address: Listen = ListenAddress("", 10072)
    telemetry_path: TelemetryPath = "/metrics"
    config_file: ExistingFile | None = None
    enable_lifecycle: Switch = False
    exemplars: Switch = True
    show_messages: Switch = False
    runbooks_url: Link | None = None
    grafana_url: Link | None = None


class Log(Section):
    """The exporter's log."""

    level: Annotated[str, choice("debug", "info", "warning", "error")] = "info"
    format: Annotated[str, choice("logfmt", "json", "console")] = "logfmt"


class File(Section):
    """The configuration file."""

    hints: ClassVar[Mapping[str, str]] = {
        **{key: f"accounts: [{{{key}: …}}]" for key in Account.model_fields if key not in {"poll", "tasks"}},
        **{key: f"accounts: [{{{form}}}]" for key, form in Account.hints.items() if "{" in form},
        "scrape_interval": "poll: {interval: …}",
        "scrape_timeout": "poll: {timeout: …}",
        **{key: f"poll: {{{key}: …}}" for key in Poll.model_fields},
    }

    accounts: Annotated[tuple[Account, ...], nothing((), tuple[Account, ...])] = ()
    poll: Poll = Poll()
    tasks: Tasks = Tasks()
    state: State = State()
    web: Web = Web()
    log: Log = Log()
