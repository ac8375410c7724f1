"""What a confirmation found, in sentences and as tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table

from results.comparison import Difference
from results.confirmation import DEFAULT, Confirmation, Confirmed
from results.scores import Estimate
from results.settings import settings_text
from trainable.table import count


def render(found: Confirmation) -> Group:
    """The configurations for a terminal: accuracy with one standard error, the differences with their intervals, and
    below what was searched of each, which would not fit beside them."""
    other_default = found.default != found.best.tried.name  # else it is the best, and all are beside that already
    view = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    view.add_column("trial", no_wrap=True)
    gaps = ["against best", "against default"] if other_default else ["against best"]
    for name in ("seeds", "accuracy, %", "best, %", *gaps, "s/epoch"):
        view.add_column(name, justify="right", no_wrap=True)
    searched = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    searched.add_column("trial", no_wrap=True)
    searched.add_column("searched", overflow="fold")
    for row, own in zip(found.rows, told_apart([row.tried.settings for row in found.rows]), strict=True):
        name = f"{row.tried.name}{'*' if row.tried.name == found.default != DEFAULT else ''}"
        view.add_row(
            name,
            str(len(row.tried.accuracies)),
            f"{100 * row.fresh.value:.1f} ±{100 * row.error:.1f}",
            f"{100 * row.best_probability:.0f}",
            *("" if gap is None else _points(gap) for gap in (row.against_best, row.against_default)[: len(gaps)]),
            f"{row.tried.seconds:.2f}",
        )
        searched.add_row(name, settings_text(own))
    return Group(view, "", searched)


def told_apart(settings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was searched of each, but for what all have in common."""
    common = {name for name, value in settings[0].items() if all(other.get(name) == value for other in settings)}
    return [{name: value for name, value in own.items() if name not in common} for own in settings]


def sentences(found: Confirmation) -> list[str]:
    """What was found, in words: the answer, and last how it was come by."""
    best, searched = found.best, found.searched
    winner = found.row(searched.name)
    now = "failed with each seed"
    if winner is not None:
        now = f"is {_range(winner.fresh)} (95 %, {len(winner.tried.accuracies)} fresh seeds)"
    by = "" if searched.objective == "valid_accuracy" else f" by {searched.objective}"
    said = [
        f"The search's winner, trial {searched.name}: best{by} of {count(searched.compared, 'configuration')} looked "
        f"like {100 * searched.accuracy:.1f} %, {now}."
    ]
    if len(found.rows) > 1:
        said.append(
            f"The best now is {_called(best.tried.name)}, {_range(best.fresh)} ({len(best.tried.accuracies)} seeds); "
            f"as the best of {len(found.rows)}, which flatters it, it is worth {_range(best.worth)}."
        )
    said += _ties(found)
    if found.row(found.default) is None:
        said.append("The default failed with each seed, so nothing is compared with it.")
    for name in dict.fromkeys((best.tried.name, searched.name)):
        row = found.row(name)
        if row is not None:
            said += _beside_default(found, row)
    said.append(
        f"Accuracy is the mean of the trials' best epochs{by} on {found.images} validation images, ± one standard "
        f"error over seeds (deviation {100 * found.deviation:.2f} points, pooled, {found.freedom} degrees of freedom). "
        "Differences, in points, are over the seeds that both have, ± 95 % intervals that hold together over all pairs "
        f"of {len(found.rows)}. best, %: the probability of being the best of them, by however little: it can be high "
        "where no difference is beyond the noise, as the intervals guard against the luckiest of all pairs. It says "
        "nothing of other images." + (f" *: the default is trial {found.default}." if found.default != DEFAULT else "")
    )
    return said


def _ties(found: Confirmation) -> list[str]:
    """Which others the best is not told apart from, and the cheapest of these."""
    best, said = found.best, []
    seeds = len(best.tried.accuracies)
    if len(found.tied) > 1:
        cheapest = found.row(found.cheapest)
        assert cheapest is not None
        said.append(
            f"Tied with it, as no difference is beyond the noise: {_listed(found.tied[1:])}. The cheapest of these "
            f"{len(found.tied)} is {_called(found.cheapest)}: {cheapest.tried.seconds:.2f} s an epoch, "
            f"{cheapest.tried.parameters:,} parameters."
        )
    elif any(len(row.tried.accuracies) == seeds for row in found.rows[1:]):
        said.append(f"No other with {seeds} seeds is tied with it.")
    left = [row for row in found.rows if len(row.tried.accuracies) < seeds]
    open_ones = [row.tried.name for row in left if row.against_best is None or not row.against_best.clear]
    if open_ones:
        said.append(
            f"Lower with the first {count(max(len(row.tried.accuracies) for row in left), 'seed')} and left there, "
            f"though the noise could be why: {_listed(open_ones)}."
        )
    return said


def _listed(names: Sequence[str]) -> str:
    return ", ".join(_called(name) for name in names)


def _beside_default(found: Confirmation, row: Confirmed) -> list[str]:
    """Whether a configuration beats the default, in a sentence; none where the default has no figure."""
    name, gap = row.tried.name, row.against_default
    if name == found.default:
        if row is not found.best:
            return [f"{_called(name).capitalize()} is the space's default."]
        which = "" if name == DEFAULT else f", {_called(name)},"
        return [f"The best is the space's default{which} itself: the search found nothing better."]
    if gap is None:
        return []
    default = found.row(found.default)
    assert default is not None
    shared = len(row.tried.accuracies.keys() & default.tried.accuracies.keys())
    verdict = "does not beat the default beyond the noise"
    if gap.clear:
        verdict = "beats the default" if gap.value > 0 else "is worse than the default"
    return [f"{_called(name).capitalize()} {verdict}: {_points_range(gap)} (95 %, n = {shared} pairs)."]


def _called(name: str) -> str:
    return "the default" if name == DEFAULT else f"trial {name}"


def _points(gap: Difference) -> str:
    # Adding 0.0 turns the -0.0 that rounding can leave into 0.0.
    return f"{round(100 * gap.value, 1) + 0.0:+.1f} ±{100 * gap.margin:.1f}"


def _points_range(gap: Difference) -> str:
    """'+1.3 points [-0.4, +3.0]'."""
    value, low, high = (
        round(100 * one, 1) + 0.0 for one in (gap.value, gap.value - gap.margin, gap.value + gap.margin)
    )
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def _range(estimate: Estimate) -> str:
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
