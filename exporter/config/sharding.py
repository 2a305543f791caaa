"""Which accounts are this exporter's, where several share those of one configuration."""

import re
from hashlib import sha256
from typing import Final

import msgspec

from exporter.errors import ConfigError


_NUMBER: Final = re.compile("[0-9]{1,9}")
_POD: Final = re.compile("[a-z0-9][a-z0-9.-]*-([0-9]{1,9})")


def shard_of(account: str, total: int) -> int:
    """Say which of some shards polls an account: the same one in every version, and on every machine.

    From `total` shards to one more, accounts move to the new one only.

    Args:
        account: Its name.
        total: 1 or more.

    Returns:
        From 0 to `total` - 1.
    """
    # Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", on the first eight bytes of the
    # name's SHA-256. Never to be changed: another function would move every account of every fleet.
    key = int.from_bytes(sha256(account.encode()).digest()[:8], "big")
    shard, following = 0, 0
    while following < total:
        shard = following
        key = (key * 2_862_933_555_777_941_757 + 1) % 2**64
        following = int((shard + 1) * (2**31 / ((key >> 33) + 1)))
    return shard


class Shard(msgspec.Struct, frozen=True):
    """One of the exporters that share the accounts.

    Attributes:
        index: From 0.
        total: How many there are.
    """

    index: int = 0
    total: int = 1

    def has(self, account: str) -> bool:
        """Whether this one polls the account of that name."""
        return shard_of(account, self.total) == self.index


WHOLE: Final = Shard()
"""All accounts in one exporter."""


def parse_shard(index: str | None, total: str | None) -> Shard:
    """Read `--shard.index` and `--shard.total`; None where one is not given.

    Args:
        index: A number, or the name of a StatefulSet's pod, which ends with it.
        total: A number.

    Raises:
        ConfigError: Everything that is wrong with them.
    """
    mistakes = []
    shards = 1 if total is None else _number(total)
    expected = f"from 0 to {shards - 1}" if shards else "from 0"
    if not shards:
        mistakes.append(f"--shard.total: {total!r} is no number from 1; expected how many shards there are")
    ordinal = 0 if index is None else _ordinal(index)
    if ordinal is None:
        or_pod = "or the name of a StatefulSet's pod"
        mistakes.append(f"--shard.index: {index!r} is no index; expected one {expected}, {or_pod}")
    elif shards and index is None and shards > 1:
        mistakes.append(f"--shard.index is missing, and --shard.total is {shards}; expected one {expected}")
    elif shards and ordinal >= shards:
        mistakes.append(f"--shard.index: {index!r} is above the last of {shards}; expected one {expected}")
    if mistakes or ordinal is None or not shards:
        raise ConfigError(mistakes)
    return Shard(ordinal, shards)


def _number(text: str) -> int | None:
    return int(text) if _NUMBER.fullmatch(text) else None


def _ordinal(text: str) -> int | None:
    pod = _POD.fullmatch(text)
    return int(pod[1]) if pod else _number(text)
