"""Turns a dashboard into the JSON that Grafana reads."""

from collections.abc import Callable
from itertools import count

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from monitoring.dashboards.plan import Board, Chart, Kind, Query

SOURCE = models.DataSourceRef(type_val="prometheus", uid="${DS_PROMETHEUS}")
TAG = "adatape-serve"
SCHEMA_VERSION = 41
"""Grafana 12's; what the builders write needs none of the migrations from their own, older one."""
WATCHED = "adatape_build_info"
"""Every server shows it, whatever it serves."""
_REFS = "ABCDEFGH"

PanelBuilder = timeseries.Panel | stat.Panel | heatmap.Panel


def render(board: Board) -> str:
    """Return a dashboard as JSON, the same for the same board."""
    builder = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags([TAG])
        .time("now-1h", "now")
        .refresh("15s")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            dashboard.DashboardLink("adatape-serve")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .include_vars(True)
            .keep_time(True)
        )
    )
    for variable in [_source(), _job(), *map(_label, board.variables)]:
        builder = builder.with_variable(variable)
    numbers = count(1)
    for title, charts in board.rows:
        builder = builder.with_row(dashboard.Row(title).id(next(numbers)))
        for chart in charts:
            builder = builder.with_panel(_panel(chart, next(numbers)))
    built = builder.build()
    built.schema_version = SCHEMA_VERSION
    return JSONEncoder(sort_keys=True, indent=2).encode(built) + "\n"


def _source() -> Builder[models.VariableModel]:
    return dashboard.DatasourceVariable("DS_PROMETHEUS").label("Prometheus").type("prometheus")


def _job() -> Builder[models.VariableModel]:
    return _query("job", f"label_values({WATCHED}, job)")


def _label(name: str) -> Builder[models.VariableModel]:
    """Return a variable over a label's values: any number of them, all by default."""
    metric = "adatape_sample_seconds_count" if name in {"version", "bucket"} else "adatape_model_info"
    variable = _query(name, f'label_values({metric}{{job="$job"}}, {name})')
    everything = models.VariableOption(text="All", value="$__all", selected=True)
    return variable.multi(True).include_all(True).all_value(".*").current(everything)


def _query(name: str, query: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query({"query": query, "refId": name})
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NUMERICAL_ASC)
    )


def _panel(chart: Chart, number: int) -> Builder[models.Panel]:
    panel = _BUILD[chart.kind](chart).id(number)
    about = f"{chart.about} Empty without {chart.needs}." if chart.needs else chart.about
    panel = panel.title(chart.title).description(about).datasource(SOURCE).span(chart.width).height(chart.height)
    for ref, query in zip(_REFS, chart.queries, strict=False):
        panel = panel.with_target(_target(chart, query, ref))
    return panel


def _target(chart: Chart, query: Query, ref: str) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(ref).expr(query.expr).legend_format(query.legend or "__auto")
    if chart.kind is Kind.NUMBER:
        return target.instant()
    target = target.range().exemplar("_seconds_bucket" in query.expr)
    return target.format(PromQueryFormat.HEATMAP) if chart.kind is Kind.HEATMAP else target


def _lines(chart: Chart) -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True)
    legend = legend.display_mode(common_models.LegendDisplayMode.LIST)
    tooltip = common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI)
    tooltip = tooltip.sort(common_models.SortOrder.DESCENDING)
    legend = legend.placement(common_models.LegendPlacement.BOTTOM)
    panel = timeseries.Panel().unit(chart.unit).legend(legend).tooltip(tooltip).fill_opacity(8).line_width(1)
    return panel.show_points(common_models.VisibilityMode.NEVER)


def _stacked(chart: Chart) -> timeseries.Panel:
    stacking = common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A")
    return _lines(chart).stacking(stacking).fill_opacity(40).min(0)


def _number(chart: Chart) -> stat.Panel:
    reduce = common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)
    panel = stat.Panel().unit(chart.unit).reduce_options(reduce)
    return panel.graph_mode(common_models.BigValueGraphMode.NONE)


def _heatmap(chart: Chart) -> heatmap.Panel:
    colours = heatmap.HeatmapColorOptions().mode(heatmap_models.HeatmapColorMode.SCHEME).scheme("Viridis").steps(64)
    axis = heatmap.YAxisConfig().unit(chart.unit)
    return heatmap.Panel().calculate(False).color(colours).y_axis(axis)


_BUILD: dict[Kind, Callable[[Chart], PanelBuilder]] = {
    Kind.LINES: _lines,
    Kind.STACKED: _stacked,
    Kind.NUMBER: _number,
    Kind.HEATMAP: _heatmap,
}
