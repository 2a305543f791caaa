"""The responses of the simulated API: as documented, or altered by faults."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from exporter.simulator.failures import OTHER_ORIGIN, alter_record, replacement
from exporter.simulator.faults import Fault
from exporter.simulator.journal import Task, normalize_status
from exporter.simulator.messages import (
    API,
    MOVED,
    STATUS,
    VERSION,
    Request,
    Response,
    is_record,
    json_response,
)
from exporter.simulator.simulation import SimulatedAccount


_VERSION = {"major": 2, "minor": 49, "versionString": "2.49.0", "releasedVersion": "2.48.0"}
_DESCRIPTIONS = {"Dataset": "Registering a dataset", "ManagedImageBuild": "Building an image"}


class _Row(msgspec.Struct, rename="camel", gc=False):
    code: int
    created: datetime
    description: str | None
    message: str | None
    status: str
    status_id: str
    status_type: str | None
    type: str | None


class _Page(msgspec.Struct):
    count: int
    data: list[Any]
    next: str | None
    previous: str | None


def respond(
    request: Request, faults: Sequence[Fault], *, origin: str, now: float, max_limit: int = 0
) -> Response:
    """Return the response to a request.

    Args:
        request: The request; its account is advanced to ``now``.
        faults: The faults that apply to it.
        origin: Scheme, host and port of absolute URLs.
        now: Unix seconds, the base of ``Retry-After`` dates.
        max_limit: Maximum number of rows per page; 0 for no limit.
    """
    changes: dict[str, Fault] = {fault.kind: fault for fault in faults}
    replaced = next((fault for fault in faults if fault.replaces), None)
    skew = changes["clock_skew"].seconds if "clock_skew" in changes else 0.0
    if replaced is not None and not (replaced.kind == "moved" and request.path.endswith(f"{MOVED}/")):
        response = replacement(request, replaced, origin=origin, now=now + skew)
    else:
        response = _documented(request, faults, origin, max_limit)
    response.skew = skew
    if "slow" in changes:
        response.delay = changes["slow"].seconds
    if "cut_body" in changes and response.delivery == "whole":
        response.delivery = "cut"
    return response


def _documented(request: Request, faults: Sequence[Fault], origin: str, max_limit: int) -> Response:
    if request.operation == "other":
        return _unknown_operation(request)
    account = request.account
    if account is None:
        return json_response(401, {"message": "Invalid credentials"})
    match request.operation:
        case "version":
            return json_response(200, _VERSION)
        case "list":
            return _list(request, account, faults, origin, max_limit)
        case "get":
            return _get(request, account, faults, origin)
        case _:
            return Response(code=204) if account.delete(request.status_id) else _not_found()


def _unknown_operation(request: Request) -> Response:
    if is_record(request.path) or request.path in {VERSION, STATUS}:
        allowed = "GET, DELETE" if is_record(request.path) else "GET"
        return json_response(405, {"message": "Method not allowed"}, Allow=allowed)
    slashed = f"{request.path}/"
    if is_record(slashed) or slashed in {VERSION, STATUS}:
        return Response(code=308, headers={"Location": slashed + (request.query and f"?{request.query}")})
    return _not_found()


def _not_found() -> Response:
    return json_response(404, {"message": "Not Found"})


def _get(request: Request, account: SimulatedAccount, faults: Sequence[Fault], origin: str) -> Response:
    task = account.get(request.status_id)
    if task is None:
        return _not_found()
    if normalize_status(task.status) == "COMPLETED" and all(
        fault.kind != "completed_as_200" for fault in faults
    ):
        # Real servers send both forms.
        base = origin if task.number % 2 else ""
        return Response(code=303, headers={"Location": f"{base}{API}/products/{task.number}/"})
    return _json(_rows([task], faults)[0], faults)


def _list(
    request: Request, account: SimulatedAccount, faults: Sequence[Fault], origin: str, max_limit: int
) -> Response:
    offset, limit = request.offset, request.limit
    if offset is None or limit is None:
        parameters = {"offset": offset, "limit": limit}
        errors = {
            name: "value should be an integer from 0" for name, value in parameters.items() if value is None
        }
        return json_response(422, {"message": "Invalid field data", "errors": errors})
    changes: dict[str, Fault] = {fault.kind: fault for fault in faults}
    cap = changes["capped_limit"].rows if "capped_limit" in changes else 0
    limit = min((each for each in (limit, max_limit, cap) if each), default=0)
    start = offset
    if "shifting_list" in changes and limit:
        # A shift by a whole page would return the same page for ever.
        start = max(0, offset - min(changes["shifting_list"].rows, limit - 1) * (offset // limit))
    rows = _rows(account.page(start, limit), faults)
    page = _Page(
        count=len(rows),
        data=rows,
        next=_next(offset, limit, origin, changes, last=not limit or start + limit >= len(account)),
        previous=_link(origin, max(0, offset - limit), limit) if offset else None,
    )
    return _json(page, faults)


def _next(offset: int, limit: int, origin: str, changes: Mapping[str, Fault], *, last: bool) -> str | None:
    if "looping_next" in changes:
        return _link(origin, offset, limit)
    if "foreign_next" in changes:
        return f"{changes['foreign_next'].location or OTHER_ORIGIN}{API}/elsewhere/?cursor=2"
    if last:
        return "" if "empty_next" in changes else None
    proxy = changes["proxied_next"].location or OTHER_ORIGIN if "proxied_next" in changes else origin
    return _link(proxy, offset + limit, limit)


def _link(origin: str, offset: int, limit: int) -> str:
    pair = (f"offset={offset}", f"limit={limit}")
    # The order of the parameters varies.
    return f"{origin}{STATUS}?{'&'.join(pair if offset // max(1, limit) % 2 else pair[::-1])}"


def _json(value: object, faults: Sequence[Fault]) -> Response:
    for fault in faults:
        if fault.kind == "wrong_shape" and fault.field is not None:
            value = {name: part for name, part in msgspec.to_builtins(value).items() if name != fault.field}
        elif fault.kind == "wrong_shape":
            value = fault.value_or([])
    return json_response(200, value)


def _row(task: Task) -> _Row:
    # Sometimes only `statusType` has the type; the documentation allows it.
    type_is_null = task.number % 5 == 0
    return _Row(
        code=int(task.status == "ERROR" and task.number % 3 != 0),
        created=datetime.fromtimestamp(task.created, UTC),
        description=_DESCRIPTIONS.get(task.type or ""),
        message=task.message,
        status=task.status,
        status_id=task.status_id,
        status_type=task.type if type_is_null or task.number % 2 else None,
        type=None if type_is_null else task.type,
    )


def _rows(tasks: Sequence[Task], faults: Sequence[Fault]) -> list[Any]:
    rows: list[Any] = [_row(task) for task in tasks]
    for fault in faults:
        for index in range(len(rows)) if fault.row is None else {fault.row} & set(range(len(rows))):
            rows[index] = alter_record(rows[index], fault)
    return rows
