"""What the page's figures share: colours, which the page gives them, so that one figure serves light, dark and print; a
dot with its interval; and their form as Vega-Lite specifications, made with Altair."""

import json
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from results.scores import Estimate

Spec = dict[str, Any]
AnyChart = alt.Chart | alt.LayerChart | alt.FacetChart

INK, MUTED, LINE, PAPER = "var(--ink)", "var(--muted)", "var(--line)", "var(--paper)"
GOOD, PLAIN, BAD = "var(--good)", "var(--plain)", "var(--bad)"
SERIES = [f"var(--series{number})" for number in range(1, 7)]
STATES = {  # in words, with a colour each
    "COMPLETE": ("finished", GOOD),
    "PRUNED": ("stopped early", PLAIN),
    "RUNNING": ("running", "var(--series2)"),
    "FAIL": ("failed", BAD),
}
AUDITED = ("audited", "var(--series4)")  # stopped, but trained on
FONT = 'system-ui, "Segoe UI", Roboto, sans-serif'  # the page's: a label's width is measured before it is drawn
POINTABLE = 3000  # points of lines that one can point at, unseen until then: a line has no tooltip between them
ROW, LINE_HEIGHT = 26, 13  # pixels of a category's row, and what each more line of its label takes
LABEL = 26  # letters of a label's line


def intervals(rows: list[dict[str, Any]], title: str, *, format_: str, zero: bool) -> AnyChart:
    """A dot with its interval for each row, in the order given; coloured where it is `strong`.

    Args:
        rows: each with `what`, `value`, `low`, `high` and `strong`.
        format_: of the numbers, as d3-format has it.
        zero: whether 0 is on the axis, and marked.
    """
    # A long label is broken into lines, or it would leave the figure no room on a phone.
    lines = {row["what"]: textwrap.wrap(row["what"], LABEL) for row in rows}
    label = alt.Axis(labelLimit=230, labelExpr=f"{json.dumps(lines)}[datum.value]", labelLineHeight=LINE_HEIGHT)
    height = max(ROW, LINE_HEIGHT * max(map(len, lines.values())) + ROW - LINE_HEIGHT)
    encoded = chart_of(rows).encode(
        y=alt.Y("what:N", sort=list(lines), title=None, axis=label),
        color=alt.condition("datum.strong", alt.value(GOOD), alt.value(PLAIN)),
        tooltip=["what:N", *(alt.Tooltip(f"{name}:Q", format=format_) for name in ("value", "low", "high"))],
    )
    span = encoded.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=title, scale=alt.Scale(zero=zero), axis=alt.Axis(tickCount=6)), x2="high:Q"
    )
    layers = [span, encoded.mark_point(size=60, filled=True, opacity=1).encode(x="value:Q")]
    if zero:
        layers.insert(0, chart_of([{"x": 0}]).mark_rule(stroke=MUTED, strokeDash=[2, 2]).encode(x="x:Q"))
    return alt.layer(*layers).properties(height=height * len(rows))


def interval(estimate: Estimate, unit: float = 100) -> dict[str, float]:
    """An estimate's part of a row, in percent where nothing else is said."""
    return {name: round(unit * value, 4) for name, value in vars(estimate).items()}


def state_colour(there: Iterable[str]) -> alt.Color:
    """A colour for each state of a trial that is there, in words."""
    found = set(there)
    shown = [(word, colour) for word, colour in (*STATES.values(), AUDITED) if word in found]
    return alt.Color(
        "state:N",
        scale=alt.Scale(domain=[word for word, _ in shown], range=[colour for _, colour in shown]),
        legend=alt.Legend(title=None, orient="top", labelLimit=400),
    )


def share_axis(shares: Iterable[float], ticks: int) -> alt.Axis:
    """An axis in percent, with a decimal where the shares differ by so little that labels would come twice."""
    known = [share for share in shares if share == share]
    narrow = bool(known) and max(known) - min(known) < 0.01 * ticks
    return alt.Axis(format=".1%" if narrow else ".0%", tickCount=ticks)


def plain(value: Any) -> Any:
    """A cell of the leaderboard as JSON has it; None where there is nothing."""
    if value is None or value != value:
        return None
    return value.item() if hasattr(value, "item") else value


def chart_of(rows: Sequence[Mapping[str, Any]]) -> alt.Chart:
    """A chart of rows, which stand in its specification; what is no number is left out there."""
    return alt.Chart(alt.Data(values=[{name: _finite(value) for name, value in row.items()} for row in rows]))


def _finite(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def spec(chart: AnyChart) -> Spec:
    """The chart as wide as its place on the page, in the page's colours."""
    axis = {"labelColor": MUTED, "titleColor": MUTED, "domainColor": LINE, "tickColor": LINE, "gridColor": LINE}
    text = {"labelColor": MUTED, "titleColor": MUTED}
    spec: Spec = (
        chart.properties(width="container", autosize=alt.AutoSizeParams(type="fit-x", contains="padding"))
        .configure(font=FONT, background="transparent")
        .configure_view(stroke=None)
        .configure_axis(**axis, titleFontWeight="normal", labelFontSize=11, titleFontSize=11)
        .configure_legend(**text, labelFontSize=11)
        .to_dict()
    )
    return spec
