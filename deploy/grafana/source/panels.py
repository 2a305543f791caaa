"""Panels and dashboards as this project wants them, built with Grafana's SDK."""

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, TypedDict, TypeVar, Unpack

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode


AnyPanel: TypeAlias = stat.Panel | timeseries.Panel | heatmap.Panel | table.Panel
SomePanel = TypeVar("SomePanel", stat.Panel, timeseries.Panel, heatmap.Panel, table.Panel)
Query: TypeAlias = str | tuple[str, str]
"""PromQL with Grafana's variables, alone or with a legend that has labels as `{{label}}`."""
Limits: TypeAlias = tuple[float, float] | None
"""Where yellow and red begin; equal for no yellow; None for no colours."""

DATASOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
STATUS_PAGE: Final = "http://localhost:10072"
"""Default of the variable `status_page`: where Compose, the demo and a port-forward serve it."""
JOB: Final = 'job=~"$job", instance=~"$instance"'
VARIABLES: Final = {
    "job": "datarobot_exporter_build_info",
    "instance": 'datarobot_exporter_build_info{job=~"$job"}',
    "account": f"datarobot_exporter_poll_interval_seconds{{{JOB}}}",
    "task_type": f'datarobot_task_stuck_after_seconds{{{JOB}, account=~"$account"}}',
}
STATUSES: Final = ("INITIALIZED", "RUNNING", "COMPLETED", "ERROR", "ABORTED", "EXPIRED", "UNKNOWN")
COLOURS: Final = ("light-blue", "blue", "green", "red", "orange", "purple", "text")
LETTERS: Final = "ABCDEFGHIJ"
FORMATS: Final = {heatmap.Panel: PromQueryFormat.HEATMAP, table.Panel: PromQueryFormat.TABLE}


class About(TypedDict, total=False):
    """What any panel may have: a unit, a text where there is no data, exemplars."""

    unit: str
    empty: str
    exemplars: bool


class Column(NamedTuple):
    """A column of a table, and a query whose result has the table's labels."""

    title: str
    expr: str
    unit: str = "none"
    limits: Limits = None


def stat_panel(
    text: str,
    *queries: Query,
    limits: Limits = None,
    words: Mapping[int, tuple[str, str]] | None = None,
    **about: Unpack[About],
) -> stat.Panel:
    """Show the latest value of each series; `words` has text and colour by value."""
    panel = stat.Panel().height(4).graph_mode(shapes.BigValueGraphMode.NONE).thresholds(_thresholds(limits))
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
    panel.color_scheme(dashboard.FieldColor().mode(model.FieldColorModeId.THRESHOLDS))
    panel.color_mode(shapes.BigValueColorMode("background" if limits or words else "value"))
    if words:
        shown = {str(key): model.ValueMappingResult(text=t, color=c) for key, (t, c) in words.items()}
        panel.mappings([model.ValueMap(options=shown)])
    return _fill(panel.span(4), text, queries, **about)


def series_panel(
    text: str,
    *queries: Query,
    look: Literal["lines", "stacked", "bars"] = "lines",
    by_status: bool = False,
    signed: bool = False,
    limit: float | None = None,
    least_step: str | None = None,
    **about: Unpack[About],
) -> timeseries.Panel:
    """Show series over time, with the colours of statuses, a dashed line at `limit`, and a shortest step."""
    panel = timeseries.Panel().height(8).line_width(1).show_points(shapes.VisibilityMode.NEVER)
    panel.draw_style(shapes.GraphDrawStyle("bars" if look == "bars" else "line"))
    panel.fill_opacity({"lines": 0, "stacked": 30, "bars": 80}[look])
    if look != "lines":
        panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))
    if not signed:
        panel.min(0)
    if limit is not None:
        dashed = common.GraphThresholdsStyleConfig().mode(shapes.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(_thresholds((limit, limit))).thresholds_style(dashed)
    if least_step is not None:
        panel.interval(least_step)
    legend = common.VizLegendOptions().display_mode(shapes.LegendDisplayMode.TABLE).calcs(["lastNotNull"])
    panel.legend(legend.placement(shapes.LegendPlacement.RIGHT).show_legend(show_legend=True))
    tooltip = common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI)
    panel.tooltip(tooltip.sort(shapes.SortOrder.DESCENDING))
    for name, colour in zip(STATUSES, COLOURS, strict=True) if by_status else ():
        fixed = model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})
        panel.override_by_name(name, [fixed])
    return _fill(panel, text, queries, **about)


def heatmap_panel(text: str, query: Query, **about: Unpack[About]) -> heatmap.Panel:
    """Show buckets in seconds over time; the series differ by `le` alone."""
    panel = heatmap.Panel().height(8).calculate(calculate=False).interval("2m").cell_gap(1).show_legend()
    colours = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Blues").steps(64)
    panel.color(colours.exponent(0.5).reverse(reverse=False)).exemplars_color("rgba(255,0,255,0.7)")
    panel.filter_values(heatmap.FilterValueRange().le(1e-9)).y_axis(heatmap.YAxisConfig().unit("s"))
    return _fill(panel, text, [query], **about)


def table_panel(
    text: str,
    *columns: Column,
    labels: Mapping[str, tuple[str, str]],
    sort_by: str,
    height: int = 8,
    **about: Unpack[About],
) -> table.Panel:
    """Show a row for each set of labels; `labels` has headings, and where a click leads to (or "")."""
    values = {f"Value #{LETTERS[place]}": column.title for place, column in enumerate(columns)}
    names = {**{label: heading for label, (heading, _) in labels.items()}, **values}
    order = {name: place for place, name in enumerate(names)}
    organize = {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": names}
    panel = table.Panel().height(height).filterable(filterable=True).cell_height(shapes.TableCellHeight.SM)
    panel.sort_by([common.TableSortByFieldState().display_name(sort_by).desc(desc=True)])
    panel.with_transformation(model.DataTransformerConfig("merge", options={}))
    panel.with_transformation(model.DataTransformerConfig("organize", options=organize))
    for heading, path in labels.values():
        url = f"/d/{path}&${{datasource:queryparam}}&${{job:queryparam}}&${{__url_time_range}}"
        links = [{"title": f"Show this {heading.lower()} alone", "url": url}]
        if path:
            panel.override_by_name(heading, [model.DynamicConfigValue("links", links)])
    for column in columns:
        look: dict[str, object] = {"unit": column.unit, "decimals": 0 if column.unit == "none" else 1}
        if column.limits is not None:
            look["thresholds"] = _thresholds(column.limits).build()
            look["custom.cellOptions"] = {"type": "color-text"}
        panel.override_by_name(column.title, [model.DynamicConfigValue(*pair) for pair in look.items()])
    return _fill(panel.span(24), text, [column.expr for column in columns], **about)


def make_dashboard(
    uid: str,
    title: str,
    description: str,
    *,
    rows: Sequence[tuple[str, int, Sequence[AnyPanel]]],
    task_types: bool = False,
) -> model.Dashboard:
    """Build a dashboard; a row is a heading, the width of its graphs (of 24 columns), and its panels."""
    made = dashboard.Dashboard(title).uid(uid).description(description).tags(["datarobot"]).editable()
    made.tooltip(model.DashboardCursorSync.CROSSHAIR).time("now-6h", "now").refresh("30s").version(1)
    made.with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    for name, selector in list(VARIABLES.items())[: 4 if task_types else 3]:
        variable = dashboard.QueryVariable(name).label(name.replace("_", " ").capitalize())
        query: dict[str, object] = {"query": f"label_values({selector}, {name})", "refId": f"variable-{name}"}
        variable.query(query).datasource(DATASOURCE).multi(multi=True)
        variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).include_all(include_all=True)
        variable.sort(model.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
        variable.current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
        # All jobs are those of exporters: other jobs expose up and process_* too.
        made.with_variable(variable if name == "job" else variable.all_value(".+"))
    page = dashboard.TextBoxVariable("status_page").label("Status page").default_value(STATUS_PAGE)
    made.with_variable(page.current(model.VariableOption(text=STATUS_PAGE, value=STATUS_PAGE)))
    others = dashboard.DashboardLink("DataRobot").type(model.DashboardLinkType.DASHBOARDS).tags(["datarobot"])
    made.link(others.include_vars(include_vars=True).keep_time(keep_time=True)).link(status_page_link())
    annotation = dashboard.AnnotationQuery().name("Firing alerts").datasource(DATASOURCE).icon_color("red")
    annotation.expr('ALERTS{alertname=~"DataRobot.+", alertstate="firing", job=~"$job|"}')
    made.annotation(annotation.enable(enable=True))
    number = 0
    for heading, width, panels in rows:
        number += 1
        made.with_row(dashboard.Row(heading).id(number))
        for panel in panels:
            number += 1
            graph = isinstance(panel, timeseries.Panel | heatmap.Panel)
            made.with_panel(panel.id(number).span(width) if graph else panel.id(number))
    return made.build()


def status_page_link() -> dashboard.DashboardLink:
    """Link to the exporter's own page, which lists tasks by id."""
    return dashboard.DashboardLink("Status page").url("${status_page:raw}").target_blank(target_blank=True)


def _fill(panel: SomePanel, text: str, queries: Sequence[Query], **about: Unpack[About]) -> SomePanel:
    """Set what all panels have; the first sentence of the text is the title."""
    title, _, description = text.partition(". ")
    panel.title(title).description(description).datasource(DATASOURCE)
    panel.unit(about.get("unit", "none")).no_value(about.get("empty", "No data"))
    if about.get("unit", "none") == "none":  # counts, even where increase() extrapolates
        panel.decimals(0)
    if exemplars := about.get("exemplars", False):
        panel.data_links([status_page_link()])
    for place, query in enumerate(queries):
        expr, legend = (query, "") if isinstance(query, str) else query
        target = prometheus.Dataquery().expr(expr).legend_format(legend).datasource(DATASOURCE)
        target.ref_id(LETTERS[place]).editor_mode(QueryEditorMode.CODE).exemplar(exemplars)
        target.format(FORMATS.get(type(panel), PromQueryFormat.TIME_SERIES))
        panel.with_target(target.instant() if isinstance(panel, stat.Panel | table.Panel) else target.range())
    return panel


def _thresholds(limits: Limits) -> dashboard.ThresholdsConfig:
    steps = [model.Threshold(None, "text" if limits is None else "green")]
    if limits is not None:
        yellow, red = limits
        steps += [model.Threshold(yellow, "yellow")] if yellow != red else []
        steps.append(model.Threshold(red, "red"))
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)
