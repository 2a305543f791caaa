"""Tables: one row for each set of labels, one query for each column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from panels import Json, Panel, Query, coloured, measured, override, panel, targets


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table, read from a query of its own.

    Attributes:
        title: Its heading.
        expr: PromQL whose result has the table's labels.
        unit: Grafana's name of the unit.
        limits: Where yellow and red begin; None for no colour.
    """

    title: str
    expr: str
    unit: str = "none"
    limits: tuple[float, float] | None = None


def table(  # noqa: D417
    title: str,
    description: str,
    *columns: Column,
    labels: Mapping[str, str],
    sort_by: str,
    runbooks: Sequence[str] = (),
    height: int = 10,
) -> Panel:
    """One row for each set of labels, across the dashboard.

    Args:
        columns: To the right of the labels; their results are joined on these.
        labels: Headings by label.
        sort_by: Heading of the column that has the largest value on top.
    """
    queries = [
        {**target, "format": "table"}
        for target in targets([Query(column.expr) for column in columns], instant=True)
    ]
    # A single query's column is called Value, without its letter.
    values = [f"Value #{target['refId']}" for target in queries] if len(queries) > 1 else ["Value"]
    headings = {**labels, **dict(zip(values, (column.title for column in columns), strict=True))}
    transformations = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {name: place for place, name in enumerate(headings)},
                "renameByName": headings,
            },
        },
    ]
    options = {
        "cellHeight": "sm",
        "showHeader": True,
        "sortBy": [{"displayName": sort_by, "desc": True}],
        "footer": {"show": False, "reducer": ["sum"], "countRows": False, "fields": ""},
    }
    return panel(
        "table",
        title,
        description,
        targets=queries,
        defaults={"unit": "none", "custom": {"align": "auto", "filterable": True}},
        options=options,
        runbooks=runbooks,
        width=24,
        height=height,
        overrides=[_look(column) for column in columns],
        transformations=transformations,
    )


def _look(column: Column) -> Json:
    properties = measured(column.unit)
    if column.limits is not None:
        properties["thresholds"] = coloured(column.limits)["thresholds"]
        properties["custom.cellOptions"] = {"type": "color-text"}
    return override(column.title, **properties)
