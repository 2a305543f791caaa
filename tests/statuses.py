"""Data for the status page: accounts in all states, with ordinary and with hostile names."""

from collections.abc import Iterable, Mapping

from exporter.datarobot.models import Status
from exporter.telemetry import PollResult
from exporter.tracking.recent_failures import CANCELLED, FAILED, RecentFailures
from exporter.tracking.reports import ObservedOutcome, TaskReport
from exporter.tracking.snapshot import Key, Snapshot
from exporter.tracking.task_types import TaskTypes
from exporter.tracking.view import AccountStatus
from exporter.web.status import ExporterStatus


NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z
HOSTILE = (
    "<script>document.title='pwned'</script>",
    "</table></main><img src=x onerror=\"document.title='pwned'\">",
    "' onfocus='document.title=1' autofocus='",
    '" onmouseover="document.title=1',
    "{{ 7 * 191 }}{% raw %}",
    "]]>--><!--",
    "javascript:document.title=1",
    "&lt;b&gt;&amp;",
    "right\u202eleft",
    "nul\0and\x1b[31mescape",
    "W" * 5_000,
    "a\nb\tc",
    " ",
    "Zwölf Boxkämpfer 🥊",
)


def poll_result(
    failure: str | None = None, error: str = "", *, ago: float = 5.0, since: float = 7_320.0
) -> PollResult:
    """Make the result of a poll; `ago` and `since` are seconds before now."""
    return PollResult(at=NOW - ago, since=NOW - since, seconds=0.214, failure=failure, error=error)


def make_snapshot(counts: Mapping[Key, int], created: Mapping[Key, list[float]] | None = None) -> Snapshot:
    """Make a listing with these numbers of tasks."""
    return Snapshot(
        counts=counts,
        created=created or {},
        types=TaskTypes(seen=tuple(dict.fromkeys(task_type for _, task_type in counts))),
        folded_types=0,
        pages=1,
        tasks=sum(counts.values()),
    )


def make_status(**fields: object) -> AccountStatus:
    """Make an account that is up and without tasks, except for some fields."""
    known: dict[str, object] = {
        "account": "production",
        "now": NOW,
        "clock_offset": 0.0,
        "alive": True,
        "last_poll": poll_result(),
        "last_success": NOW - 5.0,
        "next_poll": NOW + 25.0,
        "snapshot": make_snapshot({}),
        "oldest": (),
        "outcomes": (),
        "failures": RecentFailures(),
        "limit": lambda status, _: {"INITIALIZED": 100.0, "RUNNING": 1000.0}[status],
        "stale_after": 300.0,
    }
    return AccountStatus(**(known | fields))  # type: ignore[arg-type]


def make_task(
    status_id: str, status: Status, *, age: float | None = None, task_type: str = "Dataset"
) -> TaskReport:
    """Make an open task, whose age is in seconds, or one that has finished."""
    return TaskReport(
        status_id=status_id,
        status=status,
        task_type=task_type,
        seconds=912.4 if age is None else age,
        created=None if age is None else NOW - age,
        message=f"message of {status_id}",
    )


def make_outcome(
    status_id: str, status: Status, *, task_type: str = "Dataset", ago: float = 60.0
) -> ObservedOutcome:
    """Make an outcome that was observed `ago` seconds before now."""
    return ObservedOutcome(make_task(status_id, status, task_type=task_type), NOW - ago)


def make_busy(
    account: str, *, types: tuple[str, ...] = ("Dataset", "Testing"), **fields: object
) -> AccountStatus:
    """Make an account with tasks in several statuses, two of them stuck, failures and outcomes."""
    first, last = types[0], types[-1]
    oldest = (
        make_task("task-1", "RUNNING", age=5_000.0, task_type=first),
        make_task("task-2", "INITIALIZED", age=900.0, task_type=first),
        *(make_task(f"task-{n + 3}", "RUNNING", age=500.0 - n, task_type=last) for n in range(18)),
    )
    created: dict[Key, list[float]] = {}
    for task in oldest:
        created.setdefault((task.status, task.task_type), []).append(task.created or 0.0)
    counts: dict[Key, int] = {}
    for number, task_type in enumerate(types):
        counts |= {("RUNNING", task_type): number + 1, ("COMPLETED", task_type): 2}
        counts["ERROR", task_type] = number % 2
    counts |= {key: max(counts.get(key, 0), len(times)) for key, times in created.items()}
    statuses: tuple[Status, ...] = ("COMPLETED", "ERROR", "ABORTED", "EXPIRED", "UNKNOWN")
    outcomes = [
        make_outcome(f"end-{n}", statuses[n % 5], task_type=types[n % len(types)], ago=60.0 * n)
        for n in range(20)
    ]
    failures = make_failures(
        (outcome for outcome in outcomes if outcome.report.status in FAILED),
        (outcome for outcome in outcomes if outcome.report.status == CANCELLED),
    )
    known: dict[str, object] = {"snapshot": make_snapshot(counts, created), "failures": failures}
    known |= {"oldest": oldest, "outcomes": tuple(outcomes)}
    return make_status(account=account, **(known | fields))


def make_failures(
    failed: Iterable[ObservedOutcome] = (), cancelled: Iterable[ObservedOutcome] = ()
) -> RecentFailures:
    """Make recent failures; all of them count."""
    failed = tuple(failed)
    observed = tuple((outcome.seen, 1) for outcome in reversed(failed))
    return RecentFailures(failed=failed, cancelled=tuple(cancelled), observed=observed)


def make_exporter(*accounts: AccountStatus, **fields: object) -> ExporterStatus:
    """Make the data of the page."""
    known: dict[str, object] = {
        "now": NOW,
        "accounts": accounts,
        "reload_successful": True,
        "telemetry_path": "/metrics",
        "show_messages": False,
        "runbooks_url": None,
        "grafana_url": None,
        "config_file": "",
    }
    return ExporterStatus(**{**known, **fields})  # type: ignore[arg-type]


def all_states() -> ExporterStatus:
    """Make a page with accounts in all states and with hostile names."""
    error = "503: <h1>Service Unavailable</h1> " + "please wait, " * 60
    return make_exporter(
        make_busy("well"),
        make_busy("hostile", types=HOSTILE),
        make_busy("down", last_poll=poll_result("server_error", error, since=95.0)),
        make_status(
            account="stale",
            last_poll=poll_result("unauthorized", "401: the token is not valid", since=90_000.0),
            last_success=NOW - 90_000.0,
            snapshot=None,
            next_poll=None,
        ),
        make_status(
            account="stalled", alive=False, snapshot=None, last_poll=poll_result(since=400.0, ago=390.0)
        ),
        make_status(account="pending", last_poll=None, last_success=None, snapshot=None),
        make_status(account="idle"),
        reload_successful=False,
        show_messages=True,
        runbooks_url="https://wiki.example.com/runbooks",
        grafana_url="https://grafana.example.com/d/tasks",
    )
