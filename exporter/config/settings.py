"""The sections of the configuration: every key with its type and its default.

In the program, durations are in seconds and sizes in bytes.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, WrapValidator, model_validator

from exporter.config.addresses import (
    ListenAddress,
    parse_endpoint,
    parse_link,
    parse_listen_address,
    parse_proxy_url,
    parse_telemetry_path,
    without_user,
)
from exporter.config.authorization import AnyAuthorization, AuthorizationSection
from exporter.config.config_errors import UNKNOWN
from exporter.config.sections import ConflictError, Leaf, Section, choice, keep_unknown, nothing, raise_all
from exporter.config.units import format_duration, format_size, parse_duration, parse_size, quoted


DEFAULT_BY_TYPE: Final[Mapping[str, Mapping[str, float]]] = {"ManagedImageBuild": {"RUNNING": 7_200.0}}

_NAME: Final = re.compile("[A-Za-z0-9_.-]{1,64}")
_NAME_EXPECTED: Final = "1 to 64 letters, digits, dots, dashes or underscores"
_COMPARISONS: Final = (
    ("timeout", "interval", "longer", "at most"),
    ("request_timeout", "timeout", "longer", "at most"),
    ("stale_after", "interval", "shorter", "at least"),
)


def _parse_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(f"{quoted(text)} is not a valid name; expected {_NAME_EXPECTED}")
    return text


def _from_base(path: str, info: ValidationInfo) -> str:
    return str(info.context.base / path) if info.context and path is not UNKNOWN else path


def _existing(path: str, info: ValidationInfo) -> str:
    full = _from_base(path, info)
    if info.context and full is not UNKNOWN and not Path(full).exists():
        raise ValueError(f"{quoted(full, whole=True)} does not exist; expected a PEM file")
    return full


def _spelled(duration: float) -> str:
    return quoted(format_duration(duration))


Duration = Annotated[
    float, Field(gt=0), Leaf("a duration above 0, such as '30s'", parse_duration, format_duration)
]
Interval = Annotated[
    float, Field(ge=0.1), Leaf("a duration of at least '100ms'", parse_duration, format_duration)
]
Size = Annotated[int, Field(ge=1024, strict=True), Leaf("a size of at least '1KiB'", parse_size, format_size)]
Count = Annotated[int, Field(ge=0, lt=2**63, strict=True), Leaf("a whole number, 0 or more")]
Number = Annotated[int, Field(ge=1, lt=2**63, strict=True), Leaf("a whole number, 1 or more")]
Switch = Annotated[bool, Field(strict=True), Leaf("true or false")]
Text = Annotated[str, Field(min_length=1)]
PemFile = Annotated[Text, Leaf("the path of a PEM file"), AfterValidator(_existing)]
Directory = Annotated[Text, Leaf("the path of a directory"), AfterValidator(_from_base)]
Endpoint = Annotated[str, Leaf("the URL of DataRobot's API", parse_endpoint)]
Link = Annotated[str, Leaf("a URL", parse_link)]


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

    @model_validator(mode="after")
    def _agree(self) -> Self:
        raise_all(((), conflict) for conflict in self._conflicts())
        return self

    def _conflicts(self) -> Iterator[ConflictError]:
        for key, other, word, bound in _COMPARISONS:
            one, two = getattr(self, key), getattr(self, other)
            if one > two if word == "longer" else one < two:
                values = f"{key} {_spelled(one)} is {word} than {other} {_spelled(two)}"
                yield ConflictError(f"{values}; expected {bound} the {other}", key, other, "interval")


class Limits(Section):
    """Age above which an open task is stuck, by status."""

    INITIALIZED: Duration = 600.0
    RUNNING: Duration = 3_600.0


def _limits(value: object, info: ValidationInfo) -> Mapping[str, float]:
    """Return the limits that are given."""
    limits = Limits.model_validate(value, context=info.context)
    return {status: limit for status, limit in limits if status in limits.model_fields_set}


def _increasing(buckets: tuple[float, ...]) -> tuple[float, ...]:
    if not buckets:
        raise ValueError("the list is empty; expected at least one duration")
    expected = "expected durations that increase"
    raise_all(
        ((index,), ValueError(f"{_spelled(after)} is not above {_spelled(before)}; {expected}"))
        for index, (before, after) in enumerate(pairwise(buckets), 1)
        if before >= after
    )
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
        Mapping[str, Duration],
        BeforeValidator(
            lambda value, info: {**dict(Limits()), **_limits(value, info)}, json_schema_input_type=Limits
        ),
    ] = Field(default_factory=lambda: dict(Limits()))
    stuck_after_by_type: Annotated[
        Mapping[
            str, Annotated[Mapping[str, Duration], BeforeValidator(_limits, json_schema_input_type=Limits)]
        ],
        nothing({}, dict[str, Limits]),
    ] = DEFAULT_BY_TYPE
    max_types: Number = 100
    expose_documented_types: Switch = True
    outcomes: Switch = True
    outcome_lookups_per_poll: Count = 50
    duration_buckets: Annotated[
        tuple[Duration, ...], AfterValidator(_increasing), WrapValidator(keep_unknown)
    ] = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 86_400.0)

    def limit(self, status: str, task_type: str) -> float:
        """Return the age in seconds above which a task is stuck.

        Args:
            status: INITIALIZED or RUNNING.
            task_type: As the API spells it.
        """
        return self.stuck_after_by_type.get(task_type, {}).get(status, self.stuck_after[status])


class TlsConfig(Section):
    """How the API's server is verified, and how the exporter authenticates itself; paths of PEM files.

    Attributes:
        key_file: Without it, `cert_file` holds the key, too.
    """

    ca_file: PemFile | None = None
    cert_file: PemFile | None = None
    key_file: PemFile | None = None
    insecure_skip_verify: Switch = False

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if self.key_file is not None and self.cert_file is None:
            raise_all([(("cert_file",), ValueError("is missing beside key_file; expected both, or neither"))])
        return self


class Account(Section):
    """One DataRobot account; two are equal if nothing about them changed.

    Attributes:
        name: Value of the label `account`.
        endpoint: Without slash at its end.
        proxy_url: None for the usual `*_PROXY` variables.
        poll: The account's overrides, the global section and the defaults, merged; so for `tasks`.
    """

    name: Annotated[str, Leaf(_NAME_EXPECTED, _parse_name, json={"type": ["string", "integer"]})]
    endpoint: Endpoint
    authorization: AnyAuthorization
    tls_config: TlsConfig = TlsConfig()
    # It may hold a password.
    proxy_url: Annotated[str, Leaf("the URL of a proxy", parse_proxy_url, without_user)] | None = Field(
        default=None, repr=False
    )
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

    listen_address: Annotated[
        ListenAddress, Leaf("an address such as ':10072'", parse_listen_address, str)
    ] = ListenAddress("", 10072)
    telemetry_path: Annotated[str, Leaf("a path such as '/metrics'", parse_telemetry_path)] = "/metrics"
    config_file: Annotated[Text, Leaf("the path of a file")] | None = None
    enable_lifecycle: Switch = False
    exemplars: Switch = True
    show_messages: Switch = False
    runbooks_url: Link | None = None
    grafana_url: Link | None = None


class Log(Section):
    """The exporter's log."""

    level: Annotated[str, choice("debug", "info", "warning", "error")] = "info"
    format: Annotated[str, choice("logfmt", "json", "console")] = "logfmt"


def _different_names(accounts: tuple[Account, ...]) -> tuple[Account, ...]:
    names = [getattr(account, "name", UNKNOWN) for account in accounts]
    raise_all(
        (
            (index, "name"),
            ValueError(f"{quoted(name)} is the name of accounts[{first}], too; expected another"),
        )
        for index, name in enumerate(names)
        if name is not UNKNOWN and (first := names.index(name)) != index
    )
    return accounts


class File(Section):
    """The configuration file."""

    accounts: Annotated[
        tuple[Account, ...], nothing((), tuple[Account, ...]), AfterValidator(_different_names)
    ] = ()
    poll: Poll = Poll()
    tasks: Tasks = Tasks()
    state: State = State()
    web: Web = Web()
    log: Log = Log()


SECTIONS: Final[Mapping[str | int, type[Section]]] = {
    "poll": Poll,
    "tasks": Tasks,
    "stuck_after": Limits,
    "state": State,
    "web": Web,
    "log": Log,
    "tls_config": TlsConfig,
    "authorization": AuthorizationSection,
}
ITEMS: Final[Mapping[str | int, type[Section]]] = {"accounts": Account, "stuck_after_by_type": Limits}
