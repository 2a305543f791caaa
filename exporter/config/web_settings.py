"""The web configuration in force: read again as soon as its file, or a certificate it names, has changed."""

import os
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import structlog

from exporter.config.web_file import read_web_file
from exporter.errors import ConfigError


log = structlog.get_logger()


class WebSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One state of the web configuration.

    Attributes:
        tls: What to serve with; None for plain HTTP.
        headers: Added to answers that do not set them themselves.
        users: bcrypt hashes by user; none for no authentication.
    """

    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = {}
    users: Mapping[str, str] = {}


class WebConfig:
    """Gives the settings of now; not safe for threads.

    A file that is wrong or gone changes nothing: the settings before stay in force, and the log tells the
    mistakes once. Whether TLS is served at all is decided at the start.

    Args:
        path: The web configuration file; None for plain HTTP without authentication.

    Raises:
        ConfigError: All its mistakes.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._files: tuple[str, ...] = ()
        self._seen: tuple[object, ...] = ()
        self._told: tuple[str, ...] = ()
        self._settings = WebSettings() if path is None else self._read(path)

    def settings(self) -> WebSettings:
        """The settings of now."""
        if self._path is not None and (self._told or _identities(self._files) != self._seen):
            self._refresh(self._path)
        return self._settings

    def _refresh(self, path: Path) -> None:
        try:
            found = self._read(path)
        except ConfigError as error:
            # Told once; but tried again every time, for the mend may be in a file that is not watched yet.
            if error.mistakes != self._told:
                self._told = error.mistakes
                log.error("web_config.rejected", mistakes=list(error.mistakes))  # noqa: TRY400 they say all
            return
        self._told = ()
        if (found.tls is None) != (self._settings.tls is None):
            log.warning("config.needs_restart", section="tls_server_config")
            found = msgspec.structs.replace(found, tls=self._settings.tls)
        self._settings = found
        log.info("web_config.reloaded")

    def _read(self, path: Path) -> WebSettings:
        # Each file's identity is taken before it is used: should it change meanwhile, it differs next time.
        seen = _identities([str(path)])
        file = read_web_file(path)
        certificates = file.tls.files if file.tls else ()
        seen += _identities(certificates)
        try:
            tls = file.tls.context() if file.tls else None
        except OSError as error:
            raise ConfigError([f"{path}: tls_server_config: {error}; expected files that fit"]) from error
        self._files, self._seen = (str(path), *certificates), seen
        return WebSettings(tls=tls, headers=file.headers, users=file.users)


def _identities(files: Iterable[str]) -> tuple[object, ...]:
    """What tells one version of each file from the next, through symbolic links; None where one is gone."""

    def identity(file: str) -> object:
        try:
            found = os.stat(file)  # noqa: PTH116 asked at every request
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    return tuple(identity(file) for file in files)
