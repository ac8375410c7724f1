"""What a report says of a run, as titled sections of text, tables and figures; the page and Markdown both show them."""

from collections.abc import Mapping, Sequence
from typing import Any

from results.audit import sentences as audit_sentences
from results.blocks import Figures, Grid, Section, Text, cell
from results.comparison import comparer, method_text
from results.confirmation import DEFAULT
from results.confirmation_text import told_apart
from results.facts import Facts
from results.leaderboard import STATES, searched_columns
from results.model_sections import effects, ensemble, mistakes, predictions
from results.settings import settings_text
from trainable.table import count

SHOWN = 10  # rows of a leaderboard
ALSO = 90  # that are there for who asks for them


def sections(facts: Facts) -> list[Section]:
    """The sections that there is something to say in."""
    parts = [
        _confirmation(facts.confirmation),
        _configurations(facts),
        _leaderboard(facts),
        _learning(facts),
        _audit(facts),
        effects(facts),
        *(predictions(number, found) for number, found in enumerate(facts.predictions)),
        ensemble(facts),
        mistakes(facts.predictions),
        _data(facts),
        _time(facts),
        _made(facts),
    ]
    return [part for part in parts if part is not None]


def status(facts: Facts) -> str | None:
    """How far a search is that has trials to come, or its confirmation; None where all is done."""
    if facts.ended and facts.confirming is None:
        return None
    planned = facts.record["arguments"]["trials"]
    open_trials = facts.states.get("RUNNING", 0)
    done = sum(facts.states.values()) - open_trials - facts.states.get("WAITING", 0)
    said = f"Not at its end: {done} of {count(planned, 'trial')} done"
    if facts.confirming is None:
        return f"{said}, {open_trials} under way."
    return f"{said}; their confirmation: {facts.confirming}."


def together(runs: Sequence[Facts]) -> tuple[list[str], Grid]:
    """Several runs side by side, and what stands against comparing them."""
    first = runs[0].record["data"]
    notes = []
    if len({facts.objective for facts in runs}) > 1:
        notes.append("The runs have different objectives, so their best values have no figure in common.")
    if len({facts.epochs for facts in runs}) > 1:
        each = ", ".join(f"{facts.name} {facts.epochs}" for facts in runs)
        notes.append(f"A trial that runs its course has another number of epochs in each: {each}.")
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
            accuracy = float(facts.ranked.iloc[0]["valid_accuracy"])
            best = f"{100 * accuracy:.1f} ± {100 * facts.error(accuracy):.1f} (best of {facts.compared})"
        if facts.confirmation is not None:
            fresh, seeds = facts.confirmation["rows"][0]["fresh"], facts.confirmation["rows"][0]["tried"]["accuracies"]
            best = f"{cell(fresh)} (confirmed, {len(seeds)} seeds)"
        if facts.ensemble is not None:
            members = cell(facts.ensemble["scores"][facts.ensemble["method"]]["accuracy"])
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
    columns = ["run", "space", "by", "trials", "epochs", "best on validation, %", "ensemble on images held out, %"]
    return notes, Grid(columns, rows, frozenset({3, 4}))


def _leaderboard(facts: Facts) -> Section | None:
    if not len(facts.board):
        return None
    columns, rows = _leaderboard_rows(facts)
    said = f"On {facts.images} {facts.judged}, ± one standard error over the images."
    if facts.compared > 1:
        said += f" The first is the best of {facts.compared} trials, which flatters it."
    said += " Trials that were stopped early come after those that ran their course."
    if len(rows) > SHOWN + ALSO:
        said += f" The first {SHOWN + ALSO} of {len(rows)}; all are in leaderboard.csv."
    numbers = frozenset(place for place, name in enumerate(columns) if name not in ("trial", "state", "searched"))
    table = Grid(columns, rows[:SHOWN], numbers, rows[SHOWN : SHOWN + ALSO])
    return Section("Leaderboard", (Text(said, aside=True), table))


def _leaderboard_rows(facts: Facts) -> tuple[list[str], list[list[str]]]:
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
    place = columns.index("parameters")
    if all(cells[place] == "-" for cells in rows):  # they are counted when a session ends
        del columns[place]
        rows = [[*cells[:place], *cells[place + 1 :]] for cells in rows]
    return columns, rows


def _learning(facts: Facts) -> Section | None:
    if not facts.spent:
        return None
    stopped = " Dashed: where trials were stopped." if facts.rungs else ""
    if any(curve.audited for curve in facts.curves):
        stopped += " Audited: stopped, but trained on, to see what that costs."
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
    if not facts.repeated:
        return None
    rows = []
    compare = comparer(found)
    for one in found:
        against = "-"
        if one is not found[0]:
            gap = compare(one, found[0])
            against = f"{100 * gap.value:+.1f} ± {100 * gap.margin:.1f}{'' if gap.clear else ', noise'}"
        seeds = f"{len(one.accuracies)}{f' of {len(one.accuracies) + one.failed}' if one.failed else ''}"
        rows.append([f"{100 * one.mean:.1f} ± {100 * one.error:.1f}", seeds, against, settings_text(one.settings)])
    said = (
        f"Mean accuracy on {facts.images} {facts.judged}, ± one standard error over seeds; differences with "
        f"intervals that hold together at 95 % ({method_text(found)})."
    )
    columns = ["accuracy, %", "seeds", f"against the best of {len(found)} configurations", "configuration"]
    return Section("Configurations over seeds", (Text(said, aside=True), Grid(columns, rows, frozenset({0, 1, 2}))))


def _confirmation(found: Mapping[str, Any] | None) -> Section | None:
    if found is None:
        return None
    rows = []
    for row, own in zip(found["rows"], told_apart([row["tried"]["settings"] for row in found["rows"]]), strict=True):
        tried = row["tried"]
        rows.append(
            [
                f"{tried['name']}{'*' if tried['name'] == found.get('default') != DEFAULT else ''}",
                str(len(tried["accuracies"])),
                f"{100 * row['fresh']['value']:.1f} ± {100 * row['error']:.1f}",
                f"{100 * row['best_probability']:.0f}",
                _gap(row["against_best"]),
                _gap(row["against_default"]),
                f"{tried['seconds']:.2f}",
                settings_text(own),
            ]
        )
    columns = ["trial", "seeds", "accuracy, %", "best, %", "against best", "against default", "s/epoch", "searched"]
    return Section(
        "Confirmed with fresh seeds",
        (
            Text(found["sentences"][-1], aside=True),
            Figures(
                {
                    "confirmation": "Mean over fresh seeds, 95 % intervals; coloured: the best, and those with as many "
                    "seeds that are not told apart from it; grey: worse, or left with the first seeds."
                }
            ),
            Grid(columns, rows, frozenset(range(1, 7))),
        ),
    )


def _gap(gap: Mapping[str, float] | None) -> str:
    return "" if gap is None else f"{100 * gap['value']:+.1f} ± {100 * gap['margin']:.1f}"


def _data(facts: Facts) -> Section:
    data = facts.record["data"]
    sizes = data["counts"]
    counts = ", ".join(f"{sizes[part]} {part}" for part in dict.fromkeys(part for _, part, _ in facts.balance))
    said = (
        f"{data['source']}: {data['images']} images of {len(data['classes'])} classes at {data['image_size']} pixels: "
        f"{counts}."
    )
    rows = [[name, part, str(images)] for name, part, images in facts.balance]
    table = Grid(["class", "part", "images"], rows, frozenset({2}))
    figure = Figures({"balance": "Images of each class in each part."}, tables={"balance": table})
    return Section("The data", (Text(said), figure))


def _time(facts: Facts) -> Section | None:
    found = facts.use
    if found is None:
        return None
    said = (
        f"{_duration(found.seconds)} on {count(found.slots, 'slot')}, from each session's start to its last epoch. Of "
        f"the slots' time {100 * found.trained:.1f} % was training and validation, {100 * found.files:.1f} % "
        "checkpoints and logits, the rest start-up and waiting."
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
        cpus = "" if hardware["cpus"] is None else f", {count(hardware['cpus'], 'CPU')}"
        rows += [
            ["began", session["began"]],
            ["command", session["command"]],
            ["code", session["code"]],
            ["versions", libraries],
            ["hardware", hardware["system"] + cpus],
        ]
    return Section("What was run", (Grid(["", ""], rows),))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
