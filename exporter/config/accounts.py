"""Accounts from their sections: global settings merged in, keys checked against each other, tokens found."""

import stat
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from msgspec.structs import asdict

from exporter.config.addresses import parse_endpoint
from exporter.config.credentials import Credentials, FileCredentials, from_environment, literal
from exporter.config.mistakes import KeyPath, Mistakes
from exporter.config.settings import Account, Authorization, AuthorizationSection, Poll, Tasks, TlsConfig
from exporter.config.units import format_duration
from exporter.errors import ConfigError


_TOKEN_VARIABLE: Final = "DATAROBOT_API_TOKEN"  # noqa: S105 the variable's name
_ENDPOINT_VARIABLE: Final = "DATAROBOT_ENDPOINT"
_DEFAULT_ENDPOINT: Final = "https://app.datarobot.com/api/v2"

_DEFAULT_TYPE: Final = AuthorizationSection().type
_SOURCES: Final = ("credentials_file", "credentials_env", "credentials")
_TLS_FILES: Final = ("ca_file", "cert_file", "key_file")
_COMPARED: Final = ("interval", "timeout", "request_timeout", "stale_after")
_CALM_POLLS: Final = 2

Given = Mapping[str, Any]
"""The keys of a section that were given and are right by themselves."""


class AccountMaker:
    """Makes accounts, collecting their mistakes.

    Args:
        file: The sections of the file.
        base: Where relative paths start.
        exposed: Whether others may read the file, and with it a token written there.
        environ: Environment variables.
        mistakes: Takes what is wrong; holds what is wrong with single keys already.

    Attributes:
        warnings: Sentences on what is accepted, but questionable.
    """

    def __init__(
        self,
        file: Given,
        *,
        base: Path,
        exposed: bool,
        environ: Mapping[str, str],
        mistakes: Mistakes,
    ) -> None:
        self._sections: Sequence[Given] = file.get("accounts", ())
        self._poll: Given = file.get("poll", {})
        self._tasks: Given = file.get("tasks", {})
        self._base = base
        self._exposed = exposed
        self._environ = environ
        self._mistakes = mistakes
        self._poll_is_right = self._is_right(("poll",))
        self.warnings: list[str] = []

    def accounts(self) -> tuple[Account, ...]:
        """Make the accounts of the file, or if it has none that of the environment.

        Returns:
            Those without mistakes.
        """
        self._check_poll({}, self._poll, ())
        self._check_buckets(self._tasks, ())
        if not self._sections:
            mistaken = self._mistakes.within(("accounts",))
            return () if mistaken else tuple(self._of_environment())
        self._check_names()
        return tuple(
            account
            for index, section in enumerate(self._sections)
            for account in self._of_section(section, ("accounts", index))
        )

    def _of_section(self, given: Given, path: KeyPath) -> Iterator[Account]:
        """Make one account; none if it has mistakes."""
        poll, tasks = given.get("poll", {}), given.get("tasks", {})
        self._check_poll(self._poll, poll, path)
        self._check_buckets(tasks, path)
        tls_config = self._tls_config(given.get("tls_config", {}), (*path, "tls_config"))
        for authorization in self._authorization(given.get("authorization"), (*path, "authorization")):
            if not self._mistakes.within(path):
                yield Account(
                    name=given["name"],
                    endpoint=given["endpoint"],
                    authorization=authorization,
                    tls_config=tls_config,
                    proxy_url=given.get("proxy_url"),
                    poll=_merged_poll({**self._poll, **poll}),
                    tasks=self._merged_tasks(tasks),
                )

    def _of_environment(self) -> Iterator[Account]:
        endpoint = self._environ.get(_ENDPOINT_VARIABLE) or _DEFAULT_ENDPOINT
        if not self._environ.get(_TOKEN_VARIABLE):
            self._mistakes.add(
                ("accounts",),
                "none is configured; expected accounts in the configuration file, or the environment "
                f"variables {_TOKEN_VARIABLE} and, for another host than app.datarobot.com, "
                f"{_ENDPOINT_VARIABLE}",
            )
            return
        try:
            endpoint = parse_endpoint(endpoint)
        except ValueError as error:
            self._mistakes.add_from(_ENDPOINT_VARIABLE, str(error))
        try:
            credentials = from_environment(_TOKEN_VARIABLE, self._environ)
        except ConfigError as error:
            self._mistakes.add_from(_TOKEN_VARIABLE, str(error))
            return
        yield Account(
            name="default",
            endpoint=endpoint,
            authorization=Authorization(type=_DEFAULT_TYPE, credentials=credentials),
            poll=_merged_poll(self._poll),
            tasks=self._merged_tasks({}),
        )

    def _authorization(self, given: Given | None, path: KeyPath) -> Iterator[Authorization]:
        """Find the one token; none if there are mistakes, such as the section missing."""
        if given is None:
            return
        sources = [key for key in _SOURCES if given.get(key) is not None]
        if not sources and self._mistakes.within(path):
            return
        if len(sources) != 1:
            found = f"{' and '.join(sources)} are given" if sources else "no credentials are given"
            self._mistakes.add(path, f"{found}; expected exactly one of {', '.join(_SOURCES)}")
            return
        at = (*path, sources[0])
        try:
            credentials = self._source(sources[0], given[sources[0]], at)
        except ConfigError as error:
            self._mistakes.add(at, str(error))
            return
        yield Authorization(type=given.get("type", _DEFAULT_TYPE), credentials=credentials)

    def _source(self, key: str, value: str, at: KeyPath) -> Credentials:
        if key == "credentials_file":
            # What is no full path may be a token in the wrong place.
            return FileCredentials(self._base / value, called=value if value.startswith("/") else "the file")
        if key == "credentials_env":
            return from_environment(value, self._environ)
        if self._exposed:
            self.warnings.append(
                f"{self._mistakes.where(at)}: the token is written into a file that others may read; "
                f"use credentials_file, or chmod 600 {self._mistakes.file}"
            )
        return literal(value)

    def _tls_config(self, given: Given, path: KeyPath) -> TlsConfig:
        files = {key: str(self._base / given[key]) for key in _TLS_FILES if given.get(key)}
        for key, file in files.items():
            trouble = _trouble_with(file)
            if trouble:
                self._mistakes.add((*path, key), f"{file} {trouble}; expected a PEM file")
        for one, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
            if one in files and other not in files and not self._mistakes.within((*path, other)):
                self._mistakes.add(path, f"{one} is given without {other}; expected both, or neither")
        return TlsConfig(**{**given, **files})

    def _check_poll(self, shared: Given, own: Given, path: KeyPath) -> None:
        """Find contradictions, and note them at a key of this very section."""
        at = (*path, "poll")
        if not (self._poll_is_right and self._is_right(at)):
            return
        inherited = [sentence for _, sentence in _contradictions(_merged_poll(shared))]
        for keys, sentence in _contradictions(_merged_poll({**shared, **own})):
            for key in [key for key in keys if key in own and sentence not in inherited][:1]:
                self._mistakes.add((*at, key), sentence)

    def _is_right(self, poll: KeyPath) -> bool:
        """Tell whether the durations of a section can be compared."""
        return not any(self._mistakes.within((*poll, key)) for key in _COMPARED)

    def _check_buckets(self, own: Given, path: KeyPath) -> None:
        at = (*path, "tasks", "duration_buckets")
        buckets = own.get("duration_buckets", Tasks().duration_buckets)
        if not buckets:
            self._mistakes.add(at, "is empty; expected one duration at least")
        for before, after in pairwise(buckets):
            if before >= after:
                named = f"{format_duration(after)} after {format_duration(before)}"
                self._mistakes.add(at, f"{named} is out of order; expected durations that increase")

    def _check_names(self) -> None:
        first: dict[str, int] = {}
        for index, section in enumerate(self._sections):
            name = section.get("name")
            if name is not None and first.setdefault(name, index) != index:
                self._mistakes.add(
                    ("accounts", index, "name"),
                    f"{name} is the name of accounts[{first[name]}] too; expected a name of its own",
                )

    def _merged_tasks(self, own: Given) -> Tasks:
        default = asdict(Tasks())
        if "stuck_after_by_type" in self._tasks:
            # The operator's own list of types; without the default's, which could not be removed otherwise.
            default["stuck_after_by_type"] = {}
        return Tasks(**_merged(_merged(default, self._tasks), own))


def _merged_poll(given: Given) -> Poll:
    """Add defaults that fit: a short interval shortens the timeouts, a long one lengthens stale_after."""
    default = Poll()
    interval = given.get("interval", default.interval)
    timeout = given.get("timeout", min(default.timeout, interval))
    fitting = {
        "timeout": timeout,
        "request_timeout": min(default.request_timeout, timeout),
        "stale_after": max(default.stale_after, _CALM_POLLS * interval),
    }
    return Poll(**{**fitting, **given})


def _contradictions(poll: Poll) -> Iterator[tuple[Sequence[str], str]]:
    """Give the keys that contradict each other, the one to change first, and a sentence."""
    interval, timeout = (
        f"interval {format_duration(poll.interval)}",
        f"timeout {format_duration(poll.timeout)}",
    )
    attempt = f"request_timeout {format_duration(poll.request_timeout)}"
    stale = f"stale_after {format_duration(poll.stale_after)}"
    if poll.timeout > poll.interval:
        yield ("timeout", "interval"), f"{timeout} is longer than {interval}; expected at most the interval"
    if poll.request_timeout > poll.timeout:
        keys = ("request_timeout", "timeout", "interval")
        yield keys, f"{attempt} is longer than {timeout}; expected at most the timeout"
    if poll.stale_after < poll.interval:
        yield (
            ("stale_after", "interval"),
            f"{stale} is shorter than {interval}; expected at least the interval",
        )


def _merged(base: Given, over: Given) -> dict[str, Any]:
    """Put one map over another, maps inside likewise."""
    both = {
        key: _merged(base[key], value) if key in base and isinstance(value, Mapping) else value
        for key, value in over.items()
    }
    return {**base, **both}


def _trouble_with(file: str) -> str:
    """Say why a file cannot be read; empty if it can."""
    try:
        if not stat.S_ISREG(Path(file).stat().st_mode):
            return "is not a regular file"
        with Path(file).open("rb"):
            return ""
    except FileNotFoundError:
        return "does not exist"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
