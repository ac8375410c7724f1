"""Figures of the parameters: effects, importances, a slice each, and trials as lines over them all."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt

from results.chart import (
    GOOD,
    MUTED,
    PLAIN,
    POINTABLE,
    STATES,
    AnyChart,
    chart_of,
    interval,
    intervals,
    plain,
    share_axis,
)
from results.effects import Effects
from results.facts import Facts
from results.leaderboard import column_of

ANGLE = 320  # degrees, of what stands at each axis of the parallel view: on a phone they are close
LAST = "validation accuracy"  # the last axis of the parallel view: no parameter is called so, as it has a space


def effects(found: Effects | None) -> AnyChart | None:
    """Each effect with its interval."""
    if found is None or not found.effects:
        return None
    rows: list[dict[str, Any]] = [
        {
            "what": f"{effect.parameter} {effect.change}",
            "strong": effect.clear,
            **interval(effect.accuracy),
        }
        for effect in found.effects
    ]
    return intervals(rows, "points of accuracy", format_="+.1f", zero=True)


def importances(found: Effects | None) -> AnyChart | None:
    """Each importance with its interval."""
    if found is None or len(found.importances) < 2:
        return None
    rows: list[dict[str, Any]] = [
        {"what": one.parameter, "strong": False, **interval(one.share)} for one in found.importances
    ]
    return intervals(rows, "share of the importance, %", format_=".0f", zero=True)


def slices(facts: Facts) -> list[AnyChart]:
    """For each parameter the accuracy of each trial at equal fidelity, against its value."""
    found = facts.effects
    if found is None:
        return []
    charts: list[AnyChart] = []
    accuracies = {curve.trial: max(curve.accuracies[: found.epoch], default=math.nan) for curve in facts.curves}
    for name in found.parameters:
        column = facts.board[column_of(name)]
        rows = [
            {"trial": trial, "x": plain(value), "accuracy": round(accuracies[trial], 4), "state": STATES[state][0]}
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
            chart_of(rows)
            .mark_point(size=36, filled=True, opacity=0.7, fill=GOOD)
            .encode(
                x=x,
                y=alt.Y("accuracy:Q", title=None, axis=share_axis(accuracies.values(), 4), scale=alt.Scale(zero=False)),
                tooltip=[
                    "trial:N",
                    alt.Tooltip("x:Q" if numeric else "x:N", title=name),
                    alt.Tooltip("accuracy:Q", format=".1%"),
                    "state:N",
                ],
            )
            .properties(height=150)
        )
    return charts


def parallel(facts: Facts) -> AnyChart | None:
    """Each trial as a line over its parameters, each on its own scale from the lowest value tried to the highest."""
    names = facts.effects.parameters if facts.effects else ()
    if len(names) < 2:
        return None
    columns = [*map(column_of, names), "valid_accuracy"]
    board = facts.board[facts.board["state"].isin(STATES) & facts.board["valid_accuracy"].notna()]
    scaled: dict[str, list[float | None]] = {}
    lowest: list[dict[str, Any]] = []
    highest: list[dict[str, Any]] = []
    for shown, column in zip([*names, LAST], columns, strict=True):
        values = [plain(value) for value in board[column]]
        scaled[column], low, high = _scaled(values)
        if column == "valid_accuracy":
            low, high = f"{100 * float(low):.1f} %", f"{100 * float(high):.1f} %"
        lowest.append({"parameter": shown, "place": -0.06, "said": low})
        highest.append({"parameter": shown, "place": 1.04, "said": high})
    order = [end["parameter"] for end in lowest]
    rows: list[dict[str, Any]] = [
        {
            "trial": trial,
            "accuracy": round(float(board["valid_accuracy"].iloc[i]), 4),
            "parameter": order,
            "place": [scaled[column][i] for column in columns],
            "value": [_text(board[column].iloc[i]) for column in columns],
        }
        for i, trial in enumerate(board["trial"])
    ]
    best = sorted((row["accuracy"] for row in rows), reverse=True)
    level = best[max(0, math.ceil(len(best) / 4) - 1)]
    for row in rows:
        row["part"] = "best quarter" if row["accuracy"] >= level else "others"
    hover = alt.selection_point(fields=["trial"], on="pointerover", clear="pointerout", empty=False)
    x = alt.X(
        "parameter:N", sort=order, title=None, axis=alt.Axis(labelAngle=ANGLE, grid=True, domain=False, ticks=False)
    )
    encoded = (
        chart_of(rows)
        .transform_flatten(["parameter", "place", "value"])
        .encode(
            x=x,
            y=alt.Y("place:Q", axis=None, scale=alt.Scale(domain=[-0.1, 1.2])),
            detail="trial:N",
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=["best quarter", "others"], range=[GOOD, PLAIN]),
                legend=alt.Legend(title=None, orient="top"),
            ),
            opacity=alt.condition(hover, alt.value(1), alt.value(0.4)),
        )
    )
    lines = encoded.mark_line().encode(strokeWidth=alt.condition(hover, alt.value(4), alt.value(1.5))).add_params(hover)
    layers: list[alt.Chart] = [lines]
    if len(rows) * len(order) <= POINTABLE:
        seen = alt.condition(hover, alt.value(1), alt.value(0))
        tooltip = ["trial:N", "parameter:N", "value:N", alt.Tooltip("accuracy:Q", format=".1%")]
        layers.append(encoded.mark_point(size=60, filled=True).encode(opacity=seen, tooltip=tooltip))
    said = {"x": x, "y": "place:Q", "text": "said:N"}
    layers += [
        chart_of(lowest).mark_text(fontSize=10, fill=MUTED).encode(**said),
        chart_of(highest).mark_text(fontSize=10, fill=MUTED, angle=ANGLE, align="left").encode(**said),
    ]
    return alt.layer(*layers).properties(height=300)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _scaled(values: Sequence[Any]) -> tuple[list[float | None], str, str]:
    """Values between 0 and 1, None where there is none; and what stands at the ends."""
    known = [value for value in values if value is not None]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in known):
        low, high = min(known), max(known)
        log = low > 0 and high / low >= 30
        at = math.log if log else float
        span = at(high) - at(low)
        places = [
            None if value is None else round((at(value) - at(low)) / span, 3) if span else 0.5 for value in values
        ]
        return places, f"{low:.3g}", f"{high:.3g}"
    levels = sorted({str(value) for value in known})
    step = 1 / max(1, len(levels) - 1)
    return [None if value is None else levels.index(str(value)) * step for value in values], levels[0], levels[-1]
