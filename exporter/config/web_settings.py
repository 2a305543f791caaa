"""The current web configuration: read again when its file, or a certificate it names, has changed."""

import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from exporter.config.web_file import read_web_file
from exporter.errors import ConfigError


log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """One state of the web configuration.

    Attributes:
        tls: TLS context of the server; None for plain HTTP.
        headers: Added to responses that do not set them themselves.
        users: bcrypt hashes by user; none for no authentication.
    """

    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)


class WebConfig:
    """Reads the current settings; for one thread.

    A file that is invalid or gone changes nothing: the last settings stay, and its errors are logged once.
    Whether TLS is served is decided at start.

    Args:
        path: The web configuration file; None for plain HTTP without authentication.

    Raises:
        ConfigError: All its errors.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._files: tuple[str, ...] = ()
        self._seen: tuple[object, ...] = ()
        self._logged: tuple[str, ...] = ()
        self._settings = WebSettings() if path is None else self._read(path)

    def settings(self) -> WebSettings:
        """Return the current settings."""
        if self._path is not None and (self._logged or _identities(self._files) != self._seen):
            self._refresh(self._path)
        return self._settings

    def _refresh(self, path: Path) -> None:
        try:
            found = self._read(path)
        except ConfigError as error:
            # Logged once, but read again each time: the fix may be in a file that is not watched yet.
            if error.errors != self._logged:
                self._logged = error.errors
                log.error("web_config.rejected", errors=list(error.errors))  # noqa: TRY400 no traceback for an operator's error
            return
        self._logged = ()
        if (found.tls is None) != (self._settings.tls is None):
            log.warning("config.restart_required", section="tls_server_config")
            found = replace(found, tls=self._settings.tls)
        self._settings = found
        log.info("web_config.reloaded")

    def _read(self, path: Path) -> WebSettings:
        # Each identity is read before the file: if the file changes meanwhile, it differs next time.
        seen = _identities([str(path)])
        file = read_web_file(path)
        certificates = file.tls.files if file.tls else ()
        seen += _identities(certificates)
        try:
            tls = file.tls.context() if file.tls else None
        except OSError as error:
            raise ConfigError([f"{path}: tls_server_config: {error}"]) from error
        self._files, self._seen = (str(path), *certificates), seen
        return WebSettings(tls=tls, headers=file.headers, users=file.users)


def _identities(files: Iterable[str]) -> tuple[object, ...]:
    """Return what differs between two versions of each file, through symbolic links; None if it is gone."""

    def identity(file: str) -> object:
        try:
            found = os.stat(file)  # noqa: PTH116 called at every request
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    return tuple(identity(file) for file in files)
