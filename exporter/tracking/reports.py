"""What the log and the status page show of single tasks, and no label ever holds."""

from typing import Final

import msgspec

from exporter.datarobot.models import Status, Task


LONGEST_MESSAGE: Final = 300


class Details(msgspec.Struct, frozen=True):
    """What the API says of a task beside its status.

    Attributes:
        code: 0 for none.
        message: Cut at `LONGEST_MESSAGE` characters; empty for none.
    """

    code: int = 0
    message: str = ""


class TaskReport(msgspec.Struct, frozen=True, kw_only=True):
    """One task.

    Attributes:
        status_id: As listed.
        status: In the exporter's vocabulary.
        task_type: As in the label.
        seconds: Its age, or how long it took; None if its creation is not known.
        created: Unix seconds on the server's clock, or None if it is not known.
        code: The API's; 0 for none.
        message: The API's, cut at `LONGEST_MESSAGE` characters; empty for none.
    """

    status_id: str
    status: Status
    task_type: str
    seconds: float | None
    created: float | None = None
    code: int = 0
    message: str = ""


class ObservedOutcome(msgspec.Struct, frozen=True):
    """An outcome, and when it became known, in Unix seconds on the server's clock."""

    report: TaskReport
    seen: float


def details_of(task: Task) -> Details:
    """Keep what the API says of a task."""
    return Details(task.code or 0, (task.message or "")[:LONGEST_MESSAGE])
