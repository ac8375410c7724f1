"""The figures of a run by their names on the page: how its trials learnt, and all others."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from results.chart import (
    AUDITED,
    GOOD,
    MUTED,
    PAPER,
    POINTABLE,
    ROW,
    SERIES,
    STATES,
    AnyChart,
    Spec,
    chart_of,
    interval,
    intervals,
    share_axis,
    spec,
    state_colour,
)
from results.facts import Facts
from results.parameter_charts import effects, importances, parallel, slices
from results.prediction_charts import calibration, confusion, recalls
from results.scores import Estimate

EPOCH_TICKS = 12  # at most
SHORT = 180  # seconds that a timeline is not told in minutes of


def figures(facts: Facts) -> dict[str, Spec]:
    """The figures of a run by their names on the page, those that there is something to show of."""
    found: dict[str, AnyChart | None] = {
        "curves": _curves(facts),
        "best": _best_so_far(facts),
        "effects": effects(facts.effects),
        "importances": importances(facts.effects),
        "parallel": parallel(facts),
        "balance": _balance(facts),
        "timeline": _timeline(facts),
        "confirmation": _confirmation(facts.confirmation),
    }
    for number, predictions in enumerate(facts.predictions):
        found |= {
            f"confusion{number}": confusion(predictions),
            f"recalls{number}": recalls(predictions),
            f"calibration{number}": calibration(predictions),
        }
    found |= {f"slice{number}": chart for number, chart in enumerate(slices(facts))}
    return {name: spec(chart) for name, chart in found.items() if chart is not None}


def best_of_runs(runs: Sequence[Facts]) -> Spec:
    """The best value so far of several runs against the epochs that they spent."""
    rows = [row for facts in runs for row in _steps_of(facts)]
    names = [facts.name for facts in runs]
    chart = (
        chart_of(rows)
        .mark_line(interpolate="step-after", strokeWidth=2)
        .encode(
            x=alt.X("epochs:Q", title="epochs of all trials"),
            y=_value_axis(runs[0]),
            color=alt.Color(
                "run:N", scale=alt.Scale(domain=names, range=SERIES), legend=alt.Legend(title=None, orient="top")
            ),
            tooltip=["run:N", "epochs:Q", "trial:N", "value:Q"],
        )
        .properties(height=240)
    )
    return spec(chart)


def _curves(facts: Facts) -> AnyChart | None:
    """A line a trial, and a dot where it ends."""
    rows: list[dict[str, Any]] = [
        {
            "trial": curve.trial,
            "state": AUDITED[0] if curve.audited else STATES[curve.state][0],
            "epoch": list(range(1, len(accuracies) + 1)),
            "accuracy": [round(value, 4) for value in accuracies],
            "last_epoch": len(accuracies),
            "last": round(accuracies[-1], 4),
        }
        for curve, accuracies in ((curve, (*curve.accuracies, *curve.audited)) for curve in facts.curves)
        if accuracies and curve.state in STATES
    ]
    if not rows:
        return None
    shown = [value for row in rows for value in row["accuracy"]]
    hover = alt.selection_point(fields=["trial"], on="pointerover", clear="pointerout", empty=False)
    last = max(row["last_epoch"] for row in rows)
    ticks = list(range(1, last + 1, math.ceil(last / EPOCH_TICKS)))
    encoded = chart_of(rows).encode(
        x=alt.X("epoch:Q", title="epoch", axis=alt.Axis(values=ticks, format="d")),
        y=alt.Y("accuracy:Q", title="validation accuracy", axis=share_axis(shown, 6), scale=alt.Scale(zero=False)),
        detail="trial:N",
        color=state_colour(row["state"] for row in rows),
        opacity=alt.condition(hover, alt.value(1), alt.value(0.55)),
    )
    epochs = encoded.transform_flatten(["epoch", "accuracy"])
    lines = epochs.mark_line().encode(strokeWidth=alt.condition(hover, alt.value(3), alt.value(1.3))).add_params(hover)
    said = ["trial:N", "state:N"]
    dots = encoded.mark_point(size=40, filled=True).encode(
        x="last_epoch:Q",
        y="last:Q",
        tooltip=[
            *said,
            alt.Tooltip("last_epoch:Q", title="epochs"),
            alt.Tooltip("last:Q", format=".1%", title="at last"),
        ],
    )
    layers: list[alt.Chart] = [lines, dots]
    if sum(row["last_epoch"] for row in rows) <= POINTABLE:
        seen = alt.condition(hover, alt.value(1), alt.value(0))
        tooltip = [*said, "epoch:Q", alt.Tooltip("accuracy:Q", format=".1%")]
        layers.append(epochs.mark_point(size=60, filled=True).encode(opacity=seen, tooltip=tooltip))
    if facts.rungs:
        rungs = [{"epoch": epoch, "said": f"{number} stopped"} for epoch, number in facts.rungs.items()]
        marks = chart_of(rungs).encode(x="epoch:Q")
        layers += [
            marks.mark_rule(strokeDash=[3, 3], stroke=MUTED),
            marks.mark_text(align="left", dx=4, y=8, fill=MUTED, fontSize=11).encode(text="said:N"),
        ]
    return alt.layer(*layers).properties(height=300)


def _best_so_far(facts: Facts) -> AnyChart | None:
    rows = _steps_of(facts)
    if len(rows) < 2:
        return None
    encoded = chart_of(rows).encode(
        x=alt.X("epochs:Q", title="epochs of all trials"),
        y=_value_axis(facts),
        tooltip=["epochs:Q", "trial:N", "value:Q"],
    )
    line = encoded.mark_line(interpolate="step-after", strokeWidth=2, stroke=GOOD)
    return alt.layer(line, encoded.mark_point(size=50, filled=True, fill=GOOD)).properties(height=240)


def _steps_of(facts: Facts) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [
        {"run": facts.name, "epochs": one.epochs, "value": one.value, "trial": one.trial} for one in facts.improvements
    ]
    if rows and facts.spent > rows[-1]["epochs"]:
        rows.append({**rows[-1], "epochs": facts.spent})
    return rows


def _value_axis(facts: Facts) -> alt.Y:
    title = "best so far: " + facts.objective.replace("_", " ").replace("valid", "validation")
    shown = alt.Axis()
    if facts.objective == "valid_accuracy":
        shown = share_axis([one.value for one in facts.improvements], 6)
    return alt.Y("value:Q", title=title, axis=shown, scale=alt.Scale(zero=False))


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
                "strong": name in found["tied"],
                **interval(Estimate(fresh["value"], fresh["low"], fresh["high"])),
            }
        )
    return intervals(rows, "accuracy, %, over fresh seeds", format_=".1f", zero=False)


def _balance(facts: Facts) -> AnyChart:
    rows: list[dict[str, Any]] = [
        {"class": name, "part": part, "images": images} for name, part, images in facts.balance
    ]
    names = list(dict.fromkeys(row["class"] for row in rows))
    parts = list(dict.fromkeys(row["part"] for row in rows))
    chart: alt.Chart = (
        chart_of(rows)
        .mark_bar()
        .encode(
            x=alt.X("images:Q", title="images", axis=alt.Axis(tickMinStep=1, format=",d")),
            y=alt.Y("class:N", sort=names, title=None),
            color=alt.Color(
                "part:N",
                sort=parts,
                scale=alt.Scale(domain=parts, range=SERIES),
                legend=alt.Legend(title=None, orient="top"),
            ),
            order=alt.Order("place:Q"),
            tooltip=["class:N", "part:N", "images:Q"],
        )
        .transform_calculate(place=f"indexof({parts!r}, datum.part)")
        .properties(height=ROW * len(names))
    )
    return chart


def _timeline(facts: Facts) -> AnyChart | None:
    if not facts.timeline:
        return None
    began, ended = min(part.began for part in facts.timeline), max(part.ended for part in facts.timeline)
    unit, seconds = ("minutes", 60) if ended - began > SHORT else ("seconds", 1)
    workers = {name: f"worker {number}" for number, name in enumerate(sorted({p.worker for p in facts.timeline}), 1)}
    states = {curve.trial: STATES[curve.state][0] for curve in facts.curves if curve.state in STATES}
    rows: list[dict[str, Any]] = [
        {
            "trial": part.trial,
            "worker": workers[part.worker],
            "from": round((part.began - began) / seconds, 3),
            "to": round((part.ended - began) / seconds, 3),
            "epochs": part.epochs,
            "state": states.get(part.trial, "running"),
        }
        for part in facts.timeline
    ]
    chart: alt.Chart = (
        chart_of(rows)
        .mark_bar(height=14, stroke=PAPER, strokeWidth=1)
        .encode(
            x=alt.X("from:Q", title=f"{unit} since the first step"),
            x2="to:Q",
            y=alt.Y("worker:N", sort=list(workers.values()), title=None),
            color=state_colour(row["state"] for row in rows),
            tooltip=["trial:N", "state:N", "epochs:Q", "worker:N"],
        )
        .properties(height=ROW * len(workers))
    )
    return chart
