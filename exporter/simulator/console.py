"""What the operator of a simulation may ask and command over HTTP, below ``/simulator/``; no token is needed.

::

    GET    /simulator/truth      the truth of every account
    GET    /simulator/requests   the requests seen so far
    POST   /simulator/faults     {"kind": "rate_limited", "times": 2, "retry_after": 5}
    DELETE /simulator/faults
    POST   /simulator/tasks      {"do": "submit", "type": "Dataset", "runs_for": 60}
"""

from collections import Counter, deque
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from exporter.simulator.faults import Fault, Faults
from exporter.simulator.journal import Truth
from exporter.simulator.messages import Answer, json_answer
from exporter.simulator.simulation import SimulatedAccount


PATH = "/simulator/"

_LATEST = 1000


class Seen(msgspec.Struct, frozen=True, gc=False):
    """A request that came; never its token.

    Attributes:
        operation: ``list``, ``get``, ``delete``, ``version`` or ``other``.
        method: In upper case.
        target: Path and query.
        account: Name, or None without a valid token.
        authorized: Whether there was an ``Authorization`` header, valid or not.
    """

    operation: str
    method: str
    target: str
    account: str | None
    authorized: bool


class RequestLog:
    """The requests that came: counted for ever, the latest kept.

    Attributes:
        operations: Requests by operation.
        authorized: Requests with an ``Authorization`` header.
        latest: Oldest first.
    """

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        self.authorized = 0
        self.latest: deque[Seen] = deque(maxlen=100_000)

    def add(self, seen: Seen) -> None:
        """Note one more."""
        self.operations[seen.operation] += 1
        self.authorized += seen.authorized
        self.latest.append(seen)


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something to do to an account; see the method of this name of ``SimulatedAccount``.

    Attributes:
        do: Which method.
        account: Name; may be left out if there is only one.
        id: Of the task; ``submit`` makes one up if there is none.
        count: For ``populate``.
        type: For ``submit``, like the rest; some are for ``finish`` and ``change``, too.
    """

    do: Literal["submit", "finish", "change", "stick", "hide", "unhide", "vanish", "delete", "populate"]
    account: str | None = None
    id: str | None = None
    count: int = 1
    type: str | None = "Dataset"
    status: str | None = None
    created: float | None = None
    waits_for: float | None = None
    runs_for: float | None = None
    ends_as: str = "COMPLETED"
    listed_for: float | None = None
    record_for: float | None = None
    message: str | None = None

    def act(self, account: SimulatedAccount) -> str | None:
        """Do it.

        Returns:
            The id of the task.

        Raises:
            KeyError: There is no such task.
            ValueError: It cannot be done.
        """
        status_id = self.id or ""
        match self.do:
            case "submit":
                return account.submit(
                    self.type,
                    status=self.status or "INITIALIZED",
                    created=self.created,
                    waits_for=self.waits_for,
                    runs_for=self.runs_for,
                    ends_as=self.ends_as,
                    listed_for=self.listed_for,
                    record_for=self.record_for,
                    status_id=self.id,
                    message=self.message,
                )
            case "finish":
                account.finish(
                    status_id,
                    self.status or "COMPLETED",
                    listed_for=self.listed_for,
                    record_for=self.record_for,
                )
            case "change":
                account.change(status_id, self.status or "RUNNING")
            case "populate":
                account.populate(self.count)
            case "delete" | "vanish":
                account.vanish(status_id)
            case "stick":
                account.stick(status_id)
            case "hide":
                account.hide(status_id)
            case _:
                account.unhide(status_id)
        return self.id


_FAULT = msgspec.json.Decoder(Fault)
_COMMAND = msgspec.json.Decoder(Command)


class Console:
    """The operator's side of a simulation.

    Args:
        accounts: All of them.
        faults: What is switched on.
        log: What was seen.
    """

    def __init__(self, accounts: Iterable[SimulatedAccount], faults: Faults, log: RequestLog) -> None:
        self._accounts = {account.name: account for account in accounts}
        self._faults = faults
        self._log = log

    def answer(self, method: str, path: str, body: bytes, *, now: float) -> Answer:
        """Answer a request; ``path`` begins with ``/simulator/``, ``now`` is in Unix seconds."""
        try:
            match method, path.rstrip("/").removeprefix(PATH):
                case "GET", "truth":
                    truths = {name: plain(account.truth(now)) for name, account in self._accounts.items()}
                    given = json_answer(200, truths)
                case "GET", "requests":
                    given = json_answer(200, self._seen())
                case "POST", "faults":
                    self._faults.inject(_FAULT.decode(body))
                    given = Answer(code=204)
                case "DELETE", "faults":
                    self._faults.clear()
                    given = Answer(code=204)
                case "POST", "tasks":
                    given = self._command(_COMMAND.decode(body), now)
                case _:
                    given = json_answer(404, {"message": f"The simulator has no {method} {path}."})
        except ValueError as error:
            given = json_answer(400, {"message": str(error)})
        return given

    def _command(self, command: Command, now: float) -> Answer:
        names = [command.account] if command.account is not None else list(self._accounts)
        if len(names) != 1 or names[0] not in self._accounts:
            raise ValueError(f"Name one of these accounts: {', '.join(self._accounts)}.")
        account = self._accounts[names[0]]
        account.advance(now)
        try:
            return json_answer(200, {"id": command.act(account)})
        except KeyError:
            return json_answer(404, {"message": f"There is no task {command.id} in {account.name}."})

    def _seen(self) -> dict[str, Any]:
        return {
            "count": self._log.operations.total(),
            "operations": self._log.operations,
            "authorized": self._log.authorized,
            "latest": list(self._log.latest)[-_LATEST:],
        }


def plain(truth: Truth) -> dict[str, Any]:
    """A truth for JSON, which has no pairs as keys: lists of rows instead, and the latest endings only."""
    return {
        "now": truth.now,
        "tasks": [{"status": s, "task_type": t, "count": n} for (s, t), n in truth.tasks.items()],
        "oldest": [{"status": s, "task_type": t, "created": at} for (s, t), at in truth.oldest.items()],
        "submitted": truth.submitted,
        "finished": [{"status": s, "task_type": t, "count": n} for (s, t), n in truth.finished.items()],
        "endings": truth.endings[-_LATEST:],
    }
