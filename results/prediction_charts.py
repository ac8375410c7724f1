"""Figures of a model's predictions: confusion matrix, recalls, calibration."""

from typing import Any

import altair as alt

from results.chart import GOOD, INK, MUTED, PAPER, AnyChart, chart_of, interval, intervals
from results.predictions import Predictions


def confusion(predictions: Predictions) -> AnyChart:
    """Images by what they are and what was said."""
    rows = []
    for label, row in zip(predictions.classes, predictions.confusion, strict=True):
        total = sum(row)
        for said, images in zip(predictions.classes, row, strict=True):
            rows.append({"label": label, "said": said, "images": images, "share": images / total if total else 0.0})
    order = list(predictions.classes)
    encoded = chart_of(rows).encode(
        x=alt.X(
            "said:N", sort=order, title="said", axis=alt.Axis(labelAngle=0 if len(order) <= 6 else -40, labelLimit=80)
        ),
        y=alt.Y("label:N", sort=order, title="is", axis=alt.Axis(labelLimit=80)),
        tooltip=["label:N", "said:N", "images:Q", alt.Tooltip("share:Q", format=".0%", title="of its class")],
    )
    cells = encoded.mark_rect(fill=GOOD, stroke=PAPER).encode(
        fillOpacity=alt.Opacity("share:Q", scale=alt.Scale(type="sqrt", domain=[0, 1], range=[0, 0.95]), legend=None)
    )
    size = min(48, max(8, 320 // len(order)))
    texts = encoded.mark_text(fontSize=11).encode(
        text="images:Q", color=alt.condition("datum.share > 0.55", alt.value(PAPER), alt.value(INK))
    )
    layers = [cells, texts] if len(order) <= 12 else [cells]  # of many classes the cells are small
    return alt.layer(*layers).properties(height=size * len(order))


def recalls(predictions: Predictions) -> AnyChart:
    """The recall of each class with its interval."""
    rows: list[dict[str, Any]] = [
        {"what": name, "strong": True, **interval(recall)}
        for name, recall in zip(predictions.classes, predictions.recalls, strict=True)
        if recall is not None
    ]
    return intervals(rows, "recall, %", format_=".1f", zero=True)


def calibration(predictions: Predictions) -> AnyChart:
    """Accuracy by confidence, beside the line on which they are equal."""
    rows: list[dict[str, Any]] = [
        {"confidence": one.confidence, "images": one.images, **interval(one.accuracy, 1)}
        for one in predictions.calibration
    ]
    encoded = chart_of(rows).encode(
        x=alt.X("confidence:Q", axis=alt.Axis(format=".0%", tickCount=5), scale=alt.Scale(domain=[0, 1])),
        tooltip=[
            alt.Tooltip("confidence:Q", format=".0%"),
            alt.Tooltip("value:Q", format=".0%", title="accuracy"),
            "images:Q",
        ],
    )
    ideal = (
        chart_of([{"confidence": 0, "value": 0}, {"confidence": 1, "value": 1}])
        .mark_line(stroke=MUTED, strokeDash=[3, 3], strokeWidth=1)
        .encode(x="confidence:Q", y="value:Q")
    )
    span = encoded.mark_rule(strokeWidth=2, stroke=GOOD).encode(
        y=alt.Y("low:Q", title="accuracy", axis=alt.Axis(format=".0%", tickCount=5), scale=alt.Scale(domain=[0, 1])),
        y2="high:Q",
    )
    return alt.layer(
        ideal, span, encoded.mark_point(size=60, filled=True, fill=GOOD, opacity=1).encode(y="value:Q")
    ).properties(height=240)
