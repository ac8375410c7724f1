"""What figures share."""

from results.chart import intervals


def test_a_long_label_is_broken_into_lines_and_its_row_is_as_high() -> None:
    long = "dropout_1-4 on average in the middle of 0 and 0.216 against both"
    rows = [{"what": what, "value": 1.0, "low": 0.0, "high": 2.0, "strong": True} for what in ("lr", long)]
    chart = intervals(rows, "points", format_=".1f", zero=True).to_dict()
    axis = chart["layer"][1]["encoding"]["y"]["axis"]
    lines = '["dropout_1-4 on average in", "the middle of 0 and 0.216", "against both"]'
    assert axis["labelExpr"] == f'{{"lr": ["lr"], "{long}": {lines}}}[datum.value]'
    assert chart["height"] == 2 * (26 + 2 * 13)
    assert intervals(rows[:1], "points", format_=".1f", zero=True).to_dict()["height"] == 26
