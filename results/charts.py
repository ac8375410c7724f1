"""The page's figures as Vega-Lite specifications, made with Altair. They take their colours from the page, so that one
figure serves light, dark and print."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt

from results.effects import Effects
from results.facts import Facts
from results.predictions import Predictions
from results.scores import Estimate

Spec = dict[str, Any]
AnyChart = alt.Chart | alt.LayerChart

INK, MUTED, LINE, PAPER = "var(--ink)", "var(--muted)", "var(--line)", "var(--paper)"
GOOD, PLAIN, BAD = "var(--good)", "var(--plain)", "var(--bad)"
SERIES = [f"var(--series{number})" for number in range(1, 7)]
STATES = {  # in words, with a colour each
    "COMPLETE": ("finished", GOOD),
    "PRUNED": ("stopped early", PLAIN),
    "RUNNING": ("running", "var(--series2)"),
    "FAIL": ("failed", BAD),
}
FONT = 'system-ui, "Segoe UI", Roboto, sans-serif'  # the page's: a label's width is measured before it is drawn
ROW = 26  # pixels of a category's row


def figures(facts: Facts) -> dict[str, Spec]:
    """The figures of a run by their names on the page, those that there is something to show of."""
    found: dict[str, AnyChart | None] = {
        "curves": _curves(facts),
        "best": _best_so_far(facts),
        "effects": _effects(facts.effects),
        "importances": _importances(facts.effects),
        "parallel": _parallel(facts),
        "balance": _balance(facts),
        "timeline": _timeline(facts),
        "confirmation": _confirmation(facts.confirmation),
    }
    for number, predictions in enumerate(facts.predictions):
        found |= {
            f"confusion{number}": _confusion(predictions),
            f"recalls{number}": _recalls(predictions),
            f"calibration{number}": _calibration(predictions),
        }
    found |= {f"slice{number}": chart for number, chart in enumerate(_slices(facts))}
    return {name: _spec(chart) for name, chart in found.items() if chart is not None}


def best_of_runs(runs: Sequence[Facts]) -> Spec:
    """The best value so far of several runs against the epochs that they spent."""
    rows = [row for facts in runs for row in _steps_of(facts)]
    names = [facts.name for facts in runs]
    chart = (
        alt.Chart(_values(rows))
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("epochs:Q", title="epochs of all trials"),
            y=_value_axis(runs[0]),
            color=alt.Color("run:N", scale=alt.Scale(domain=names, range=SERIES), legend=alt.Legend(title=None, orient="top")),
            tooltip=["run:N", "epochs:Q", "trial:N", "value:Q"],
        )
        .properties(height=240)
    )
    return _spec(chart)


def _curves(facts: Facts) -> AnyChart | None:
    rows = [
        {
            "trial": curve.trial,
            "state": STATES[curve.state][0],
            "epoch": list(range(1, len(curve.accuracies) + 1)),
            "accuracy": [round(value, 4) for value in curve.accuracies],
        }
        for curve in facts.curves
        if curve.accuracies and curve.state in STATES
    ]
    if not rows:
        return None
    hover = alt.selection_point(fields=["trial"], on="pointerover", clear="pointerout", empty=False)
    base = alt.Chart(_values(rows)).transform_flatten(["epoch", "accuracy"])
    encoded = base.encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(tickMinStep=1)),
        y=alt.Y("accuracy:Q", title="validation accuracy", axis=alt.Axis(format=".0%"), scale=alt.Scale(zero=False)),
        detail="trial:N",
        color=_state_colour(row["state"] for row in rows),
    )
    lines = encoded.mark_line(interpolate="linear").encode(
        strokeWidth=alt.condition(hover, alt.value(3), alt.value(1.3)),
        opacity=alt.condition(hover, alt.value(1), alt.value(0.55)),
    )
    points = (
        encoded.mark_point(size=60, filled=True)
        .encode(
            opacity=alt.condition(hover, alt.value(1), alt.value(0.25 if facts.epochs <= 60 else 0)),
            tooltip=["trial:N", "state:N", "epoch:Q", alt.Tooltip("accuracy:Q", format=".1%")],
        )
        .add_params(hover)
    )
    layers: list[alt.Chart] = [lines, points]
    if facts.rungs:
        rungs = [{"epoch": epoch, "said": f"{number} stopped"} for epoch, number in facts.rungs.items()]
        marks = alt.Chart(_values(rungs)).encode(x="epoch:Q")
        layers += [
            marks.mark_rule(strokeDash=[3, 3], stroke=MUTED),
            marks.mark_text(align="left", dx=4, y=8, fill=MUTED, fontSize=11).encode(text="said:N"),
        ]
    return alt.layer(*layers).properties(height=300)


def _steps_of(facts: Facts) -> list[dict[str, Any]]:
    rows = [
        {"run": facts.name, "epochs": one.epochs, "value": one.value, "trial": one.trial}
        for one in facts.improvements
    ]
    if rows and facts.spent > rows[-1]["epochs"]:
        rows.append({**rows[-1], "epochs": facts.spent})
    return rows


def _value_axis(facts: Facts) -> alt.Y:
    title = "best so far: " + facts.objective.replace("_", " ").replace("valid", "validation")
    shown = alt.Axis(format=".0%") if facts.objective == "valid_accuracy" else alt.Axis()
    return alt.Y("value:Q", title=title, axis=shown, scale=alt.Scale(zero=False))


def _best_so_far(facts: Facts) -> AnyChart | None:
    rows = _steps_of(facts)
    if len(rows) < 2:
        return None
    encoded = alt.Chart(_values(rows)).encode(
        x=alt.X("epochs:Q", title="epochs of all trials"), y=_value_axis(facts), tooltip=["epochs:Q", "trial:N", "value:Q"]
    )
    line = encoded.mark_line(interpolate="step-after", strokeWidth=2, stroke=GOOD)
    return alt.layer(line, encoded.mark_point(size=50, filled=True, fill=GOOD)).properties(height=240)


def _effects(found: Effects | None) -> AnyChart | None:
    if found is None:
        return None
    rows = [
        {
            "what": f"{effect.parameter} {effect.change}",
            "verdict": "beyond the noise" if effect.clear else "inside the noise",
            **_interval(effect.accuracy),
        }
        for effect in found.effects
    ]
    return _intervals(rows, "points of accuracy", format_="+.1f", zero=True)


def _importances(found: Effects | None) -> AnyChart | None:
    if found is None or len(found.importances) < 2:
        return None
    rows = [
        {"what": one.parameter, "verdict": "share", **_interval(one.share)} for one in found.importances
    ]
    return _intervals(rows, "share of the importance, %", format_=".0f", zero=True)


def _confirmation(found: Mapping[str, Any] | None) -> AnyChart | None:
    if found is None:
        return None
    rows = []
    for row in found["rows"]:
        name, fresh = row["tried"]["name"], row["fresh"]
        seeds = len(row["tried"]["accuracies"])
        rows.append(
            {
                "what": f"{name} ({seeds} seeds)",
                "verdict": "tied with the best" if name in found["tied"] else "not",
                **_interval(Estimate(fresh["value"], fresh["low"], fresh["high"])),
            }
        )
    return _intervals(rows, "accuracy, %, over fresh seeds", format_=".1f", zero=False)


def _intervals(rows: list[dict[str, Any]], title: str, *, format_: str, zero: bool) -> AnyChart:
    """A dot with its interval for each row, in the order given."""
    order = [row["what"] for row in rows]
    strong = rows[0]["verdict"] if len({row["verdict"] for row in rows}) == 1 else None
    encoded = alt.Chart(_values(rows)).encode(
        y=alt.Y("what:N", sort=order, title=None, axis=alt.Axis(labelLimit=230)),
        color=alt.condition(
            alt.FieldOneOfPredicate("verdict", [strong or "beyond the noise", "tied with the best"]),
            alt.value(GOOD),
            alt.value(PLAIN),
        ),
        tooltip=["what:N", *(alt.Tooltip(f"{name}:Q", format=format_) for name in ("value", "low", "high"))],
    )
    span = encoded.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=title, scale=alt.Scale(zero=zero), axis=alt.Axis(tickCount=6)), x2="high:Q"
    )
    layers = [span, encoded.mark_point(size=60, filled=True, opacity=1).encode(x="value:Q")]
    if zero:
        layers.insert(0, alt.Chart(_values([{"x": 0}])).mark_rule(stroke=MUTED, strokeDash=[2, 2]).encode(x="x:Q"))
    return alt.layer(*layers).properties(height=ROW * len(rows))


def _searched(facts: Facts) -> list[str]:
    if facts.effects is None:
        return []
    return [one.parameter for one in facts.effects.importances]


def _slices(facts: Facts) -> list[AnyChart]:
    """For each parameter the accuracy of each trial at equal fidelity, against its value."""
    found = facts.effects
    if found is None:
        return []
    charts: list[AnyChart] = []
    accuracies = {curve.trial: max(curve.accuracies[: found.epoch], default=math.nan) for curve in facts.curves}
    for name in _searched(facts):
        column = facts.board[name]
        rows = [
            {"trial": trial, "x": _plain(value), "accuracy": round(accuracies[trial], 4), "state": STATES[state][0]}
            for trial, value, state in zip(facts.board["trial"], column, facts.board["state"], strict=True)
            if value == value and state in STATES and accuracies[trial] == accuracies[trial]
        ]
        numeric = all(isinstance(row["x"], int | float) and not isinstance(row["x"], bool) for row in rows)
        values = [row["x"] for row in rows]
        log = numeric and min(values) > 0 and max(values) / min(values) >= 30
        x = alt.X("x:N", title=name, axis=alt.Axis(labelAngle=-30))
        if numeric:
            kind = alt.Scale(type="log") if log else alt.Scale(zero=False)
            x = alt.X("x:Q", title=name, scale=kind, axis=alt.Axis(tickCount=4))
        else:
            for row in rows:
                row["x"] = str(row["x"])
        charts.append(
            alt.Chart(_values(rows))
            .mark_point(size=36, filled=True, opacity=0.7, fill=GOOD)
            .encode(
                x=x,
                y=alt.Y("accuracy:Q", title=None, axis=alt.Axis(format=".0%", tickCount=4), scale=alt.Scale(zero=False)),
                tooltip=["trial:N", alt.Tooltip("x:Q" if numeric else "x:N", title=name), alt.Tooltip("accuracy:Q", format=".1%"), "state:N"],
            )
            .properties(height=150)
        )
    return charts


def _parallel(facts: Facts) -> AnyChart | None:
    """Each trial as a line over its parameters, each on its own scale from the lowest value tried to the highest."""
    names = _searched(facts)
    if len(names) < 2:
        return None
    board = facts.board[facts.board["state"].isin(STATES) & facts.board["valid_accuracy"].notna()]
    scaled, ends = {}, []
    for name in [*names, "valid_accuracy"]:
        values = [_plain(value) for value in board[name]]
        scaled[name], low, high = _scaled(values)
        shown = name
        if name == "valid_accuracy":
            shown, low, high = "accuracy", f"{100 * float(low):.1f} %", f"{100 * float(high):.1f} %"
        ends += [{"parameter": shown, "place": -0.06, "said": low}, {"parameter": shown, "place": 1.06, "said": high}]
    order = [end["parameter"] for end in ends[::2]]
    rows = [
        {
            "trial": trial,
            "accuracy": round(float(board["valid_accuracy"].iloc[i]), 4),
            "parameter": order,
            "place": [scaled[name][i] for name in [*names, "valid_accuracy"]],
        }
        for i, trial in enumerate(board["trial"])
    ]
    best = sorted((row["accuracy"] for row in rows), reverse=True)
    level = best[max(0, math.ceil(len(best) / 4) - 1)]
    for row in rows:
        row["part"] = "best quarter" if row["accuracy"] >= level else "others"
    hover = alt.selection_point(fields=["trial"], on="pointerover", clear="pointerout", empty=False)
    x = alt.X("parameter:N", sort=order, title=None, axis=alt.Axis(labelAngle=-40, grid=True, domain=False, ticks=False))
    lines = (
        alt.Chart(_values(rows))
        .transform_flatten(["parameter", "place"])
        .mark_line()
        .encode(
            x=x,
            y=alt.Y("place:Q", axis=None, scale=alt.Scale(domain=[-0.1, 1.1])),
            detail="trial:N",
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=["best quarter", "others"], range=[GOOD, PLAIN]),
                legend=alt.Legend(title=None, orient="top"),
            ),
            opacity=alt.condition(hover, alt.value(1), alt.value(0.4)),
            strokeWidth=alt.condition(hover, alt.value(4), alt.value(1.5)),
            tooltip=["trial:N", alt.Tooltip("accuracy:Q", format=".1%")],
        )
        .add_params(hover)
    )
    texts = alt.Chart(_values(ends)).mark_text(fontSize=10, fill=MUTED).encode(x=x, y="place:Q", text="said:N")
    return alt.layer(lines, texts).properties(height=280)


def _scaled(values: Sequence[Any]) -> tuple[list[float | None], str, str]:
    """Values between 0 and 1, None where there is none; and what stands at the ends."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        low, high = min(known), max(known)
        log = low > 0 and high / low >= 30
        at = math.log if log else float
        span = at(high) - at(low)
        places = [None if value is None else round((at(value) - at(low)) / span, 3) if span else 0.5 for value in values]
        return places, f"{low:.3g}", f"{high:.3g}"
    levels = sorted({str(value) for value in known})
    step = 1 / max(1, len(levels) - 1)
    return [None if value is None else levels.index(str(value)) * step for value in values], levels[0], levels[-1]


def _confusion(predictions: Predictions) -> AnyChart:
    rows = []
    for label, row in zip(predictions.classes, predictions.confusion, strict=True):
        total = sum(row)
        for said, images in zip(predictions.classes, row, strict=True):
            rows.append({"label": label, "said": said, "images": images, "share": images / total if total else 0.0})
    order = list(predictions.classes)
    encoded = alt.Chart(_values(rows)).encode(
        x=alt.X("said:N", sort=order, title="said", axis=alt.Axis(labelAngle=0 if len(order) <= 6 else -40)),
        y=alt.Y("label:N", sort=order, title="is"),
        tooltip=["label:N", "said:N", "images:Q", alt.Tooltip("share:Q", format=".0%", title="of its class")],
    )
    cells = encoded.mark_rect(fill=GOOD, stroke=PAPER).encode(
        fillOpacity=alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0.03, 0.95]), legend=None)
    )
    size = min(48, max(18, 320 // len(order)))
    if len(order) > 12:
        return cells.properties(height=size * len(order))
    texts = encoded.mark_text(fontSize=11).encode(
        text="images:Q", color=alt.condition("datum.share > 0.55", alt.value(PAPER), alt.value(INK))
    )
    return alt.layer(cells, texts).properties(height=size * len(order))


def _recalls(predictions: Predictions) -> AnyChart:
    rows = [
        {"what": name, "verdict": "recall", **_interval(recall)}
        for name, recall in zip(predictions.classes, predictions.recalls, strict=True)
        if recall is not None
    ]
    return _intervals(rows, "recall, %", format_=".1f", zero=True)


def _calibration(predictions: Predictions) -> AnyChart:
    rows = [
        {"confidence": one.confidence, "images": one.images, **_interval(one.accuracy, 1)}
        for one in predictions.calibration
    ]
    encoded = alt.Chart(_values(rows)).encode(
        x=alt.X("confidence:Q", axis=alt.Axis(format=".0%", tickCount=5), scale=alt.Scale(domain=[0, 1])),
        tooltip=[
            alt.Tooltip("confidence:Q", format=".0%"),
            alt.Tooltip("value:Q", format=".0%", title="accuracy"),
            "images:Q",
        ],
    )
    ideal = (
        alt.Chart(_values([{"confidence": 0, "value": 0}, {"confidence": 1, "value": 1}]))
        .mark_line(stroke=MUTED, strokeDash=[3, 3], strokeWidth=1)
        .encode(x="confidence:Q", y="value:Q")
    )
    span = encoded.mark_rule(strokeWidth=2, stroke=GOOD).encode(
        y=alt.Y("low:Q", title="accuracy", axis=alt.Axis(format=".0%", tickCount=5), scale=alt.Scale(domain=[0, 1])), y2="high:Q"
    )
    return alt.layer(ideal, span, encoded.mark_point(size=60, filled=True, fill=GOOD, opacity=1).encode(y="value:Q")).properties(
        height=240
    )


def _balance(facts: Facts) -> AnyChart:
    rows = [{"class": name, "part": part, "images": images} for name, part, images in facts.balance]
    names = list(dict.fromkeys(row["class"] for row in rows))
    parts = list(dict.fromkeys(row["part"] for row in rows))
    return (
        alt.Chart(_values(rows))
        .mark_bar()
        .encode(
            x=alt.X("images:Q", title="images"),
            y=alt.Y("class:N", sort=names, title=None),
            color=alt.Color(
                "part:N", sort=parts, scale=alt.Scale(domain=parts, range=SERIES), legend=alt.Legend(title=None, orient="top")
            ),
            order=alt.Order("place:Q"),
            tooltip=["class:N", "part:N", "images:Q"],
        )
        .transform_calculate(place=f"indexof({parts!r}, datum.part)")
        .properties(height=ROW * len(names))
    )


def _timeline(facts: Facts) -> AnyChart | None:
    if not facts.timeline:
        return None
    began = min(part.began for part in facts.timeline)
    workers = {name: f"worker {number}" for number, name in enumerate(sorted({p.worker for p in facts.timeline}), 1)}
    states = {curve.trial: STATES[curve.state][0] for curve in facts.curves if curve.state in STATES}
    rows = [
        {
            "trial": part.trial,
            "worker": workers[part.worker],
            "from": round((part.began - began) / 60, 3),
            "to": round((part.ended - began) / 60, 3),
            "epochs": part.epochs,
            "state": states.get(part.trial, "running"),
        }
        for part in facts.timeline
    ]
    return (
        alt.Chart(_values(rows))
        .mark_bar(height=14, stroke=PAPER, strokeWidth=1)
        .encode(
            x=alt.X("from:Q", title="minutes since the first step"),
            x2="to:Q",
            y=alt.Y("worker:N", sort=list(workers.values()), title=None),
            color=_state_colour(row["state"] for row in rows),
            tooltip=["trial:N", "state:N", "epochs:Q", "worker:N"],
        )
        .properties(height=ROW * len(workers))
    )


def _state_colour(there: Iterable[str]) -> alt.Color:
    found = set(there)
    shown = [(word, colour) for word, colour in STATES.values() if word in found]
    return alt.Color(
        "state:N",
        scale=alt.Scale(domain=[word for word, _ in shown], range=[colour for _, colour in shown]),
        legend=alt.Legend(title=None, orient="top"),
    )


def _interval(estimate: Estimate, unit: float = 100) -> dict[str, float]:
    return {name: round(unit * value, 4) for name, value in vars(estimate).items()}


def _plain(value: Any) -> Any:
    """A cell of the leaderboard as JSON has it; None where there is nothing."""
    if value is None or value != value:
        return None
    return value.item() if hasattr(value, "item") else value


def _values(rows: Sequence[Mapping[str, Any]]) -> alt.Data:
    return alt.Data(values=list(rows))


def _spec(chart: AnyChart) -> Spec:
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


