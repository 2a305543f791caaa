"""Loads the configuration for a command."""

import difflib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from exporter import config
from exporter.commands.terminal import enumerated, print_error, sanitize
from exporter.config import DEFAULT_FILE, Account, Config
from exporter.logs import configure_logs


def load(context: click.Context) -> Config:
    """Load the configuration from file, environment and the exporter's own flags.

    Raises:
        ConfigError: It is invalid.
    """
    return config.load(file_of(context), os.environ, overrides(context.find_root().params))


def overrides(flags: Mapping[str, Any]) -> dict[str, object]:
    """Return the values of the setting flags that are set, by dotted key; other flags are left out."""
    return {
        key.replace("__", "."): value for key, value in flags.items() if "__" in key and value is not None
    }


def file_of(context: click.Context) -> Path | None:
    """Return the configuration file; None if no file is named and the default one does not exist."""
    file: Path | None = context.find_root().params["file"]
    return file or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)


def select_accounts(context: click.Context, names: Sequence[str]) -> Sequence[Account]:
    """Load the configuration and return the named accounts, or all if there are no names.

    Also sets up logging, at level error unless a flag or variable sets it, so that log lines do not mix with
    the output.
    """
    settings = load(context)
    configure_logs(context.find_root().params["log__level"] or "error", settings.log.format)
    for warning in settings.warnings:
        print_error(f"warning: {warning}")
    known = [account.name for account in settings.accounts]
    unknown = [name for name in dict.fromkeys(names) if name not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, n=1)
        expected = f"did you mean {close[0]}?" if close else f"expected one of {enumerated(known)}"
        raise click.UsageError(f"--account: {sanitize(unknown[0])} is not configured; {expected}", context)
    return [account for account in settings.accounts if account.name in names or not names]
