"""What a report says of a run, as titled sections of text, tables and figures; the page and Markdown both show them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from results.audit import sentences as audit_sentences
from results.comparison import difference
from results.facts import Facts
from results.leaderboard import STATES, searched_columns
from results.predictions import Mistake, Predictions
from results.settings import settings_text
from results.weights import METHODS
from trainable.table import count

SHOWN = 10  # rows of a leaderboard
ALSO = 90  # that are there for who asks for them


@dataclass(frozen=True)
class Text:
    """A paragraph; an aside explains how figures are meant."""

    text: str
    aside: bool = False


@dataclass(frozen=True)
class Grid:
    """A table of text. The columns of numbers are aligned to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: frozenset[int] = frozenset()
    folded: Sequence[Sequence[str]] = ()  # further rows, for who asks for them


@dataclass(frozen=True)
class Figures:
    """Some of `charts.figures`, side by side where there is room, each with what it shows in words."""

    captions: Mapping[str, str]  # by name
    title: str = ""  # of all of them


@dataclass(frozen=True)
class Pictures:
    """Images that a model was wrong about."""

    mistakes: Sequence[Mistake]


Block = Text | Grid | Figures | Pictures


@dataclass(frozen=True)
class Section:
    """A titled part of a report."""

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def sections(facts: Facts) -> list[Section]:
    """The sections that there is something to say in."""
    parts = [
        _confirmation(facts.confirmation),
        _configurations(facts),
        _leaderboard(facts),
        _learning(facts),
        _audit(facts),
        _effects(facts),
        *(_predictions(number, found) for number, found in enumerate(facts.predictions)),
        _ensemble(facts),
        _mistakes(facts.predictions),
        _data(facts),
        _time(facts),
        _made(facts),
    ]
    return [part for part in parts if part is not None]


def status(facts: Facts) -> str | None:
    """How far a search is that has trials to come; None of one that has ended."""
    if facts.ended:
        return None
    planned = facts.record["arguments"]["trials"]
    open_trials = facts.states.get("RUNNING", 0)
    done = sum(facts.states.values()) - open_trials - facts.states.get("WAITING", 0)
    return f"Not at its end: {done} of {count(planned, 'trial')} done, {open_trials} under way."


def together(runs: Sequence[Facts]) -> tuple[list[str], Grid]:
    """Several runs side by side, and what stands against comparing them."""
    first = runs[0].record["data"]
    notes = []
    for facts in runs[1:]:
        data = facts.record["data"]
        if data["fingerprint"] != first["fingerprint"]:
            notes.append(
                f"{facts.name} has other data than {runs[0].name} (or reads other columns), so their figures do not "
                "compare."
            )
        elif data["split_fingerprint"] != first["split_fingerprint"]:
            notes.append(f"{facts.name} has another split than {runs[0].name}, so their figures hardly compare.")
    rows = []
    for facts in runs:
        best, members = "-", "-"
        if facts.compared:
            accuracy = float(facts.board.iloc[0]["valid_accuracy"])
            best = f"{100 * accuracy:.1f} ± {100 * facts.error(accuracy):.1f} (best of {facts.compared})"
        if facts.ensemble is not None:
            members = _cell(facts.ensemble["scores"][facts.ensemble["method"]]["accuracy"])
        arguments = facts.record["arguments"]
        rows.append(
            [
                facts.name,
                str(arguments["space"]),
                f"{arguments['sampler']}, {arguments['scheduler']}",
                str(sum(facts.states.values())),
                str(facts.spent),
                best,
                members,
            ]
        )
    columns = ["run", "space", "by", "trials", "epochs", "best on validation, %", "ensemble on holdout, %"]
    return notes, Grid(columns, rows, frozenset({3, 4}))


def _leaderboard(facts: Facts) -> Section | None:
    if not len(facts.board):
        return None
    columns, rows = leaderboard_rows(facts)
    said = (
        f"On {facts.images} validation images, ± one standard error over the images. The first is the best of "
        f"{facts.compared}, which flatters it. Trials that were stopped early come after those that ran their course."
    )
    if len(rows) > SHOWN + ALSO:
        said += f" The first {SHOWN + ALSO} of {len(rows)}; all are in leaderboard.csv."
    table = Grid(columns, rows[:SHOWN], frozenset({0, 3, 4, 5, 6, 7}), rows[SHOWN : SHOWN + ALSO])
    return Section("Leaderboard", (Text(said, aside=True), table))


def leaderboard_rows(facts: Facts) -> tuple[list[str], list[list[str]]]:
    """The leaderboard as text, a row a trial: accuracy with one standard error, and what was searched."""
    searched = [name for name in searched_columns(facts.board) if facts.board[name].nunique(dropna=False) > 1]
    rows = []
    for row in facts.board.to_dict("records"):
        accuracy, loss, parameters = row["valid_accuracy"], row["valid_loss"], row["parameters"]
        rows.append(
            [
                str(row["rank"]),
                str(row["trial"]),
                STATES.get(row["state"], "finished" if row["state"] == "COMPLETE" else row["state"].lower()),
                str(row["epochs"]),
                f"{100 * accuracy:.1f} ± {100 * facts.error(accuracy):.1f}" if accuracy == accuracy else "-",
                f"{loss:.4f}" if loss == loss else "-",
                f"{row['seconds']:.0f}",
                f"{parameters:,.0f}" if parameters == parameters else "-",
                settings_text({str(name): row[name] for name in searched if row[name] == row[name]}),
            ]
        )
    columns = ["", "trial", "state", "epochs", "accuracy, %", "loss", "seconds", "parameters", "searched"]
    return columns, rows


def _learning(facts: Facts) -> Section | None:
    if not facts.spent:
        return None
    stopped = " Dashed: where trials were stopped." if facts.rungs else ""
    return Section(
        "Learning",
        (
            Figures({"curves": f"Validation accuracy of each trial, epoch by epoch.{stopped}"}),
            Figures({"best": "The best value so far against the epochs that all trials together had trained."}),
        ),
    )


def _audit(facts: Facts) -> Section | None:
    if facts.audit is None:
        return None
    return Section("What early stopping cost", tuple(Text(sentence) for sentence in audit_sentences(facts.audit)))


def _configurations(facts: Facts) -> Section | None:
    found = facts.configurations
    if not any(len(one.accuracies) > 1 for one in found):
        return None
    rows = []
    for one in found:
        against = "-"
        if one is not found[0]:
            gap = difference(one, found[0], len(found))
            against = f"{100 * gap.value:+.1f} ± {100 * gap.margin:.1f}{'' if gap.clear else ', noise'}"
        seeds = f"{len(one.accuracies)}{f' of {len(one.accuracies) + one.failed}' if one.failed else ''}"
        rows.append([f"{100 * one.mean:.1f} ± {100 * one.error:.1f}", seeds, against, settings_text(one.settings)])
    said = (
        f"Mean accuracy on {facts.images} validation images, ± one standard error over seeds; differences with "
        "intervals that hold together at 95 % (Games and Howell 1976)."
    )
    columns = ["accuracy, %", "seeds", f"against the best of {len(found)}", "configuration"]
    return Section("Configurations over seeds", (Text(said, aside=True), Grid(columns, rows, frozenset({0, 1, 2}))))


def _confirmation(found: Mapping[str, Any] | None) -> Section | None:
    if found is None:
        return None
    rows = []
    for row in found["rows"]:
        tried = row["tried"]
        rows.append(
            [
                tried["name"],
                str(len(tried["accuracies"])),
                f"{100 * row['fresh']['value']:.1f} ± {100 * row['error']:.1f}",
                f"{100 * row['best_probability']:.0f}",
                _gap(row["against_best"]),
                _gap(row["against_default"]),
                f"{tried['seconds']:.2f}",
                settings_text(tried["settings"]),
            ]
        )
    columns = ["trial", "seeds", "accuracy, %", "best, %", "against best", "against default", "s/epoch", "searched"]
    return Section(
        "Confirmed with fresh seeds",
        (
            Text(found["sentences"][-1], aside=True),
            Figures({"confirmation": "Mean over fresh seeds, 95 % intervals; coloured: not told apart from the best."}),
            Grid(columns, rows, frozenset(range(1, 7))),
        ),
    )


def _gap(gap: Mapping[str, float] | None) -> str:
    return "" if gap is None else f"{100 * gap['value']:+.1f} ± {100 * gap['margin']:.1f}"


def _effects(facts: Facts) -> Section | None:
    found = facts.effects
    if found is None:
        return None
    how = "fitted together by least squares" if found.together else "each fitted alone, as there are few trials"
    fidelity = (
        f"Accuracies are the best of the first {count(found.epoch, 'epoch')}, which all {found.trials} trials have: so "
        "none looks good because it was let train longer."
        if found.epoch < facts.epochs
        else f"Over {found.trials} trials."
    )
    said = (
        f"{fidelity} Effects are {how}; a number's is from a low value to a high one (a tenth of the trials were "
        "lower, a tenth higher). The intervals hold together at 95 %. The sampler chose what to try next by what it "
        "had seen, so these are associations: what is worth having, confirm with fresh seeds."
    )
    if found.left_out:
        said += f" Not compared, as not all trials have them or they did not vary: {', '.join(found.left_out)}."
    names = [f"slice{number}" for number in range(len(found.importances))]
    return Section(
        "What mattered",
        (
            Text(said, aside=True),
            Figures({"effects": "Points of accuracy; coloured: beyond the noise."}),
            Figures(
                {
                    "importances": "How much each parameter decides whether a trial is in the best tenth (PED-ANOVA, "
                    "Watanabe et al. 2023), with 95 % intervals of resampled trials. Where nothing matters, all shares "
                    "are alike."
                }
            ),
            Figures(dict.fromkeys(names, ""), "Each trial's accuracy against each parameter:"),
            Figures({"parallel": "A line a trial, from its parameters to its accuracy; point at one to see it alone."}),
        ),
    )


def _predictions(number: int, found: Predictions) -> Section:
    said = (
        f"Accuracy {_percent(found.accuracy)} on {found.images} {found.part} (95 % interval). Expected calibration "
        f"error {_percent(found.calibration_error)}."
    )
    if found.model == "the ensemble":
        said += (
            " Its weights were fitted on these images; the scores below are those on images they were not fitted on."
        )
    else:
        said += " It was chosen on these images, which flatters it."
    title = found.model[0].upper() + found.model[1:] + (", the best single model" if number == 0 else "")
    return Section(
        title,
        (
            Text(said, aside=True),
            Figures(
                {
                    f"confusion{number}": "Images by what they are and what was said; shaded by the share of a class.",
                    f"recalls{number}": "Of each class the share that was found, 95 % intervals.",
                    f"calibration{number}": "How often it was right where it was so sure, 95 % intervals; on the "
                    "dashed line confidence is earned.",
                }
            ),
        ),
    )


def _ensemble(facts: Facts) -> Section | None:
    manifest = facts.ensemble
    if manifest is None:
        return None
    objective = manifest["objective"]
    members = [
        [member["trial"], _run_name(facts, member["run"]), f"{member[objective]:.4f}", f"{member['weight']:.3f}"]
        for member in manifest["members"]
    ]
    scores = [
        [
            f"{name}{' (chosen)' if name == manifest['method'] else ''}",
            f"{score['log_loss']['value']:.3f} [{score['log_loss']['low']:.3f}, {score['log_loss']['high']:.3f}]",
            _cell(score["accuracy"]),
            _cell(score["calibration_error"]),
            "" if name == "single" else _cell(score["accuracy_gain"], "+"),
        ]
        for name, score in ((row.name, manifest["scores"][row.name]) for row in METHODS)
    ]
    said = f"{manifest['method']}: {manifest['reason']}"
    how = (
        f"On {manifest['holdout_images']} images, each scored by weights that were not fitted on it (95 % intervals). "
        f"single: the first member alone, the best of {manifest['trials_compared']} on validation; gains are paired."
    )
    rows = "; ".join(f"{what.replace('_', ' ')}: {which}" for what, which in manifest["rows"].items())
    return Section(
        "How the ensemble was chosen",
        (
            Text(said),
            Grid(
                ["method", "log loss", "accuracy, %", "calibration, %", "gain, points"], scores, frozenset({1, 2, 3, 4})
            ),
            Text(how, aside=True),
            Grid(["trial", "run", objective, "weight"], members, frozenset({2, 3})),
            Text(f"Which images each step saw: {rows}.", aside=True),
        ),
    )


def _run_name(facts: Facts, path: str) -> str:
    """A member's run, whose path is relative to this one's."""
    if path == ".":
        return facts.name
    return path if path.startswith("confirm/") else path.rsplit("/", 1)[-1]


def _mistakes(predictions: Sequence[Predictions]) -> Section | None:
    if not predictions or not predictions[-1].mistakes:
        return None
    last = predictions[-1]
    said = f"What {last.model} was most sure of and wrong about, of {last.images} {last.part}."
    return Section("The most confident mistakes", (Text(said, aside=True), Pictures(last.mistakes)))


def _data(facts: Facts) -> Section:
    data = facts.record["data"]
    sizes = data["counts"]
    counts = ", ".join(f"{sizes[part]} {part}" for part in dict.fromkeys(part for _, part, _ in facts.balance))
    said = (
        f"{data['source']}: {data['images']} images of {len(data['classes'])} classes at {data['image_size']} pixels: "
        f"{counts}."
    )
    return Section("The data", (Text(said), Figures({"balance": "Images of each class in each part."})))


def _time(facts: Facts) -> Section | None:
    found = facts.use
    if found is None:
        return None
    said = (
        f"{_duration(found.seconds)} on {count(found.slots, 'slot')}. Of the slots' time {100 * found.trained:.1f} % "
        f"was training and validation, {100 * found.files:.1f} % checkpoints and logits, the rest start-up and waiting."
    )
    return Section("Where the time went", (Text(said), Figures({"timeline": "Which worker trained which trial when."})))


def _made(facts: Facts) -> Section:
    record, arguments = facts.record, facts.record["arguments"]
    rows = [
        ["space", f"{arguments['space']}: {record['space'].get('summary', '')}"],
        ["sampler, scheduler", f"{arguments['sampler']}, {arguments['scheduler']}"],
        ["objective, seed", f"{record['objective']}, {record['seed']}"],
        ["data fingerprint", record["data"]["fingerprint"]],
        ["split fingerprint", record["data"]["split_fingerprint"]],
    ]
    for session in record["sessions"]:
        libraries = ", ".join(f"{name} {version}" for name, version in session["versions"].items())
        hardware = session["hardware"]
        rows += [
            [f"command, {session['began']}", session["command"]],
            ["code", session["code"]],
            ["versions", libraries],
            ["hardware", f"{hardware['system']}, {count(hardware['cpus'], 'CPU')}"],
        ]
    return Section("What was run", (Grid(["", ""], rows),))


def _percent(estimate: Any) -> str:
    return f"{100 * estimate.value:.1f} % [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def _cell(estimate: Mapping[str, float], sign: str = "") -> str:
    value, low, high = (f"{round(100 * estimate[name], 1) + 0.0:{sign}.1f}" for name in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
