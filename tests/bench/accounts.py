"""Accounts whose tasks a page server lists: as settings, and as a configuration file."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exporter import config
from exporter.config import Account


TOKEN: Final = "obviously-fake-token"


def account_at(url: str, page: int) -> Account:
    """Return an account with time for long polls."""
    (account,) = config.load(None, {"DATAROBOT_ENDPOINT": url, "DATAROBOT_API_TOKEN": TOKEN}, {}).accounts
    times = {"interval": 600.0, "timeout": 600.0, "request_timeout": 60.0}
    poll = account.poll.model_copy(update={"page_size": page, **times})
    return account.model_copy(update={"poll": poll})


def write_accounts(
    path: Path,
    endpoints: Sequence[str],
    *,
    interval: float,
    tokens: Sequence[str] = (),
    log_level: str = "info",
) -> Path:
    """Write a configuration that polls these endpoints, and return its path.

    Args:
        path: Of the file.
        endpoints: One per account.
        interval: Seconds; a poll may take all of it.
        tokens: One per account; by default any.
        log_level: As in the configuration.
    """
    accounts = [
        {"name": f"account-{number:03}", "endpoint": endpoint, "authorization": {"credentials": token}}
        for number, (endpoint, token) in enumerate(
            zip(endpoints, tokens or [TOKEN] * len(endpoints), strict=True)
        )
    ]
    seconds = f"{interval:.0f}s"
    poll = {"interval": seconds, "timeout": seconds, "request_timeout": seconds, "page_size": 1_000}
    document = {"accounts": accounts, "poll": poll, "log": {"level": log_level}}
    path.write_text(json.dumps(document), encoding="utf-8")
    path.chmod(0o600)
    return path
