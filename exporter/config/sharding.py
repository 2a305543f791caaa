"""Which accounts this exporter polls, if several exporters share one configuration."""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from exporter.errors import ConfigError


_NUMBER: Final = re.compile("[0-9]{1,9}")
_POD: Final = re.compile("[a-z0-9][a-z0-9.-]*-([0-9]{1,9})")


def shard_of(account: str, total: int) -> int:
    """Return the shard that polls an account, from 0 to `total` - 1; the same in every version.

    With one more shard, accounts move to the new one only.
    """
    # Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", on the first eight bytes of the
    # name's SHA-256. Do not change it: another function would move the accounts of every fleet.
    key = int.from_bytes(sha256(account.encode()).digest()[:8], "big")
    shard, following = 0, 0
    while following < total:
        shard = following
        key = (key * 2_862_933_555_777_941_757 + 1) % 2**64
        following = int((shard + 1) * (2**31 / ((key >> 33) + 1)))
    return shard


@dataclass(frozen=True)
class Shard:
    """One of `total` exporters that share the accounts; `index` starts at 0."""

    index: int = 0
    total: int = 1

    def has(self, account: str) -> bool:
        """Return whether this shard polls the account of that name."""
        return shard_of(account, self.total) == self.index


WHOLE: Final = Shard()
"""All accounts in one exporter."""


def parse_shard(index: str | None, total: str | None) -> Shard:
    """Read `--shard.index` and `--shard.total`; None where one is not given.

    Args:
        index: A number, or the name of a StatefulSet's pod, which ends with it.
        total: A number.

    Raises:
        ConfigError: All errors of both.
    """
    errors = []
    shards = 1 if total is None else _number(total)
    expected = f"from 0 to {shards - 1}" if shards else "from 0"
    if not shards:
        errors.append(f"--shard.total: {total!r} is not a valid number; expected 1 or more")
    ordinal = 0 if index is None else _ordinal(index)
    if ordinal is None:
        or_pod = "or the name of a StatefulSet's pod"
        errors.append(f"--shard.index: {index!r} is not a valid index; expected one {expected}, {or_pod}")
    elif shards and index is None and shards > 1:
        errors.append(f"--shard.index is missing, and --shard.total is {shards}; expected one {expected}")
    elif shards and ordinal >= shards:
        errors.append(
            f"--shard.index: {index!r} is too large for a total of {shards}; expected one {expected}"
        )
    if errors or ordinal is None or not shards:
        raise ConfigError(errors)
    return Shard(ordinal, shards)


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _ordinal(text: str) -> int | None:
    pod = _POD.fullmatch(text)
    return int(pod[1]) if pod else _number(text)
