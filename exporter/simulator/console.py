"""The HTTP interface to control a simulation, below ``/simulator/``, without authentication.

::

    GET    /simulator/truth      ground truth of all accounts
    GET    /simulator/requests   requests received so far
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
from exporter.simulator.messages import Response, json_response
from exporter.simulator.simulation import SimulatedAccount


PATH = "/simulator/"

_MAX_SHOWN = 1000


class LoggedRequest(msgspec.Struct, frozen=True, gc=False):
    """A request, without its token.

    Attributes:
        operation: ``list``, ``get``, ``delete``, ``version`` or ``other``.
        method: In upper case.
        target: Path and query.
        account: Name; None without a valid token.
        authorized: Whether it had an ``Authorization`` header, valid or not.
    """

    operation: str
    method: str
    target: str
    account: str | None
    authorized: bool


class RequestLog:
    """Counts requests and keeps the latest.

    Attributes:
        operations: Number of requests by operation.
        authorized: Number of requests with an ``Authorization`` header.
        latest: The latest requests, oldest first.
    """

    def __init__(self) -> None:
        self.operations: Counter[str] = Counter()
        self.authorized = 0
        self.latest: deque[LoggedRequest] = deque(maxlen=100_000)

    def add(self, request: LoggedRequest) -> None:
        """Add a request."""
        self.operations[request.operation] += 1
        self.authorized += request.authorized
        self.latest.append(request)


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command for an account; see the methods of ``SimulatedAccount``.

    Attributes:
        do: Name of the method.
        account: Name; optional if there is only one.
        id: Id of the task; ``submit`` generates one by default.
        count: Argument of ``populate``.
        type: Argument of ``submit``, like all below; some are arguments of ``finish`` and ``change`` too.
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

    def run(self, account: SimulatedAccount) -> str | None:
        """Run the command.

        Returns:
            The id of the task.

        Raises:
            KeyError: There is no such task.
            ValueError: The command is invalid.
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
    """Handles the requests below ``/simulator/``.

    Args:
        accounts: The accounts.
        faults: The active faults.
        log: The logged requests.
    """

    def __init__(self, accounts: Iterable[SimulatedAccount], faults: Faults, log: RequestLog) -> None:
        self._accounts = {account.name: account for account in accounts}
        self._faults = faults
        self._log = log

    def respond(self, method: str, path: str, body: bytes, *, now: float) -> Response:
        """Handle a request; ``path`` starts with ``/simulator/``, ``now`` is in Unix seconds."""
        try:
            match method, path.rstrip("/").removeprefix(PATH):
                case "GET", "truth":
                    truths = {
                        name: truth_to_json(account.truth(now)) for name, account in self._accounts.items()
                    }
                    response = json_response(200, truths)
                case "GET", "requests":
                    response = json_response(200, self._requests())
                case "POST", "faults":
                    self._faults.inject(_FAULT.decode(body))
                    response = Response(code=204)
                case "DELETE", "faults":
                    self._faults.clear()
                    response = Response(code=204)
                case "POST", "tasks":
                    response = self._command(_COMMAND.decode(body), now)
                case _:
                    response = json_response(404, {"message": f"Unknown path: {method} {path}."})
        except ValueError as error:
            response = json_response(400, {"message": str(error)})
        return response

    def _command(self, command: Command, now: float) -> Response:
        names = [command.account] if command.account is not None else list(self._accounts)
        if len(names) != 1 or names[0] not in self._accounts:
            raise ValueError(f"account must be one of {', '.join(self._accounts)}.")
        account = self._accounts[names[0]]
        account.advance(now)
        try:
            return json_response(200, {"id": command.run(account)})
        except KeyError:
            return json_response(404, {"message": f"No task {command.id} in {account.name}."})

    def _requests(self) -> dict[str, Any]:
        return {
            "count": self._log.operations.total(),
            "operations": self._log.operations,
            "authorized": self._log.authorized,
            "latest": list(self._log.latest)[-_MAX_SHOWN:],
        }


def truth_to_json(truth: Truth) -> dict[str, Any]:
    """Return a truth with lists of rows instead of dicts, since JSON keys cannot be pairs."""
    return {
        "now": truth.now,
        "tasks": [{"status": s, "task_type": t, "count": n} for (s, t), n in truth.tasks.items()],
        "oldest": [{"status": s, "task_type": t, "created": at} for (s, t), at in truth.oldest.items()],
        "submitted": truth.submitted,
        "finished": [{"status": s, "task_type": t, "count": n} for (s, t), n in truth.finished.items()],
        "outcomes": truth.outcomes[-_MAX_SHOWN:],
    }
