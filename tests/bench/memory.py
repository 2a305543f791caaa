"""Memory of processes, in bytes."""

import re
from pathlib import Path


def resident(pid: int | str = "self") -> int:
    """Return the memory that a process has now."""
    return _read(pid, "VmRSS")


def peak(pid: int | str = "self") -> int:
    """Return the most memory that a process had; getrusage would include its parent's."""
    return _read(pid, "VmHWM")


def _read(pid: int | str, field: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (kibibytes,) = re.findall(rf"{field}:\s+(\d+) kB", status)
    return int(kibibytes) * 1024
