"""python -m search.confirm: a search's best configurations, trained again with fresh seeds.

Each tier of a confirmation is an ordinary run, RUN/confirm/1 and RUN/confirm/2: a grid over configurations, repeated
with the same seeds. All have the first tier's; only those that did well with them, the default and the search's winner
have the second's.
"""

import argparse
import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.cli import FAILED_TRIALS, Parser, command_text, exit_code, nameable, process, say
from search.options import CONFIRM, ON_WHAT, Options, flag, resolve, several, shared_options
from trainable.errors import UserError
from trainable.files import make_folder, write_json

if TYPE_CHECKING:  # --help must not wait for torch and Ray
    from rich.console import Console

    from results.confirmation import Confirmation
    from search.confirm_plan import Plan
    from spaces.space import Space
    from trainable.dataset import LabelledData

    Sizes = Mapping[int, LabelledData]  # the data at each image size

TOP, SEEDS = 8, 5
FORMAT = 1  # of confirm.json
EXAMPLES = """examples:
  python -m search.confirm faces                     the 8 best configurations and the default, up to 5 seeds each
  python -m search.confirm faces --time-budget 2h    the same command again goes on

exit codes:
  0 done   1 failure   2 usage   3 done, but trials failed   130 Ctrl-C   143 SIGTERM; the last two can be resumed
"""


@dataclass(frozen=True)
class Training:
    """A trial of a tier that ran its course."""

    configuration: str
    seed: int
    accuracy: float  # on validation, of its best epoch
    epochs: int
    seconds: float  # of all its epochs
    parameters: int


@dataclass(frozen=True)
class Tier:
    """What a tier has given so far."""

    code: int  # exit code of its session
    trainings: Sequence[Training]  # of the seeds that all its configurations have been trained with
    failed: int  # trials
    whole: bool  # whether all its trials have ended


@dataclass
class Outcome:
    """What all tiers have given so far."""

    code: int = 0
    whole: bool = False  # whether nothing is left to train
    failed: int = 0  # trials
    trainings: list[Training] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code."""
    began = time.monotonic()
    arguments = {**vars(parser().parse_args(argv)), "command": command_text("search.confirm", argv)}
    return exit_code(lambda: _command(arguments, began), arguments["debug"])


def parser() -> argparse.ArgumentParser:
    """The command line. An option that is not given is None."""
    parser = Parser(
        prog="python -m search.confirm",
        description="Train a search's best configurations and its default again, with fresh seeds, and compare them.",
        epilog=EXAMPLES,
    )
    shared, add = shared_options(), parser.add_argument
    add("run", nargs="?", type=nameable, metavar="RUN", help="a run's name or folder (default: the one worked on last)")
    add("--top", type=several, metavar="K", help=f"how many of the best configurations (default: {TOP})")
    add(
        "--seeds",
        type=several,
        metavar="S",
        help=f"seeds of the better half, the default and the search's winner; the others have 2 (default: {SEEDS})",
    )
    add(
        "--space",
        type=nameable,
        metavar="FILE",
        help="where the search's space is, if it is a file of yours (default: where it was)",
    )
    for name in ("time_budget", "out", "cache", *ON_WHAT, "debug"):
        add(flag(name), **shared[name])
    return parser


def _command(arguments: dict[str, Any], began: float) -> int:
    import optuna

    from results.members import find_run
    from results.tree import check_tree
    from search.mirrored import while_mirrored
    from search.plain import Plain
    from search.record import check_search, stored
    from search.storage import connect
    from trainable import named

    console = Plain()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    run = find_run(arguments["run"], arguments["out"] or Path("runs")).absolute()
    named.note(arguments)
    check_tree(run)
    said = stored(run)
    assert said is not None  # there is a run.json
    check_search(said, run, "RUN")
    given = {**arguments, "goes_on": _again(run, arguments), **named.chosen(run, said, arguments, "storage", "cache")}
    storage = connect(given["storage"], run) if given["storage"] else None
    deadline = math.inf if arguments["time_budget"] is None else began + arguments["time_budget"]
    return while_mirrored(lambda: confirm(run, given, console, began), run, storage, console, deadline)


def _again(run: Path, given: Mapping[str, Any]) -> str:
    """The command that goes on with a run's confirmation, from any folder: all that was given, but the time budget. The
    run may be another user's, and the confirmation may not have begun: nothing that was given stands in a record yet.
    """
    from trainable import named

    said = {name: given[name] for name in ("top", "seeds", "space", "cache", *ON_WHAT) if given[name] is not None}
    whole = {name: named.in_full(name, value) if name in named.HOW else str(value) for name, value in said.items()}
    options = "".join(f" {flag(name)} {shlex.quote(value or 'none')}" for name, value in whole.items())
    return f"python -m search.confirm {shlex.quote(str(run))}{options}"


def confirm(
    run: Path, given: Mapping[str, Any], console: "Console", began: float, test_images: int | None = None
) -> int:
    """Confirms a run, or goes on with that, and returns the exit code. Holds the run's lock.

    Args:
        run: its folder, with a run.json.
        given: `top`, `seeds`, `space`, `time_budget` and the options of ON_WHAT, None where one was not given; `cache`;
            `command`, the text of the command, and `goes_on`, that of the one that goes on where it ends.
        began: time.monotonic() at the command's start, from which the time budget counts.
        test_images: how many images an ensemble will predict after this within the budget; None: there will be none.
    Raises:
        UserError: where the run cannot be confirmed, or not as asked.
    """
    from search import record
    from search.labelled import labelled_again
    from search.track import check_tools

    with record.lock(run):
        said = record.stored(run)
        assert said is not None  # there is a run.json
        check_tools(said["arguments"]["track"])
        plan = _plan(run, said, given, console)
        cache, columns = Path(given["cache"]), said["arguments"]["inputs"]
        sizes = {
            size: labelled_again(run, said, columns, size, cache, "RUN")
            for size in sorted({config.image_size for config in plan.configurations.values()})
        }
        data = next(iter(sizes.values()))  # they differ in their pixels alone
        if data.split_fingerprint != said["data"]["split_fingerprint"]:
            raise UserError(f"RUN: {run / record.SPLITS} is not the split that {run} was made with.")
        make_folder(run / CONFIRM)
        write_json(run / CONFIRM / "plan.json", plan.to_json())
        outcome, found = Outcome(), None
        for outcome in _train_tiers(run, said, plan, given, sizes, console, began, test_images):
            found = _found(plan, outcome, said["seed"], len(data.split.judged))
            if found is not None:
                write_json(run / "confirm.json", _to_json(plan, outcome, found))
    if found is not None:
        _show(run, plan, outcome, found, console)
    elif not outcome.whole:
        console.print("Nothing can be said yet: it takes two seeds of a configuration.")
    if test_images is None:  # else the search says so, when it has its ensemble
        console.print(f"Look: python -m search.report {shlex.quote(str(run))}", soft_wrap=True)
    if found is not None and not outcome.whole:  # below what is not all
        console.print(f"Go on with: {given['goes_on']}", soft_wrap=True)
    elif outcome.whole and test_images is None:
        console.print(f"Next: python -m search.ensemble {shlex.quote(str(run))}", soft_wrap=True)
    return outcome.code or (FAILED_TRIALS if outcome.whole and outcome.failed else 0)


def _plan(run: Path, said: Mapping[str, Any], given: Mapping[str, Any], console: "Console") -> "Plan":
    """What was chosen when the confirmation began, or is to be chosen now."""
    from search.confirm_plan import Plan, choose, compared
    from search.record import begun
    from search.storage import shown
    from trainable import named
    from trainable.untrusted import parse_json

    path = run / CONFIRM / "plan.json"
    if not begun(run / CONFIRM / "1"):
        space = named.chosen(run, said, given, "space")["space"]
        return choose(run, said, given["top"] or TOP, given["seeds"] or SEEDS, space)
    anew = f"move {run / CONFIRM} away to begin anew"
    place = said["arguments"]["storage"] if given["storage"] is None else given["storage"]
    if place:
        anew = f"move {run / CONFIRM} away and delete {shown(place, run.name)}/{CONFIRM} to begin anew"
    try:
        plan = Plan.from_json(parse_json(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is missing or damaged ({error}); restore it from a copy, or {anew}.") from None
    for option in ("top", "seeds"):
        then = getattr(plan, option)
        if given[option] not in (None, then):
            raise UserError(
                f"--{option}: {run} is being confirmed with {then}, not {given[option]}; keep that, or {anew}."
            )
    now = len(compared(run))
    if now != plan.compared:
        say(
            console,
            f"Note: these are the best of {plan.compared} configurations, and the search has compared {now} by now; to "
            f"choose again, {anew}.",
        )
    return plan


def _train_tiers(
    run: Path,
    said: Mapping[str, Any],
    plan: "Plan",
    given: Mapping[str, Any],
    sizes: "Sizes",
    console: "Console",
    began: float,
    test_images: int | None,
) -> Iterator[Outcome]:
    """Trains what the tiers lack, until nothing is left or the time or a signal ends it.

    Yields: after each tier what all have given so far; but for one that is followed by a tier that has begun before.
    """
    from search.confirm_plan import promoted, tier_space, tiers
    from search.record import begun
    from search.session import TooShort, say_out_of_time
    from trainable.table import count

    outcome, names = Outcome(), list(plan.configurations)
    planned = tiers(plan.seeds)
    for number, repeats in enumerate(planned, start=1):
        space = tier_space(plan, names, said["objective"])
        options = _tier_options(run, said, space, number, repeats, given, ensemble=test_images is not None)
        seeds = f"{repeats} {'' if number == 1 else 'more '}seeds{' each' if len(names) > 1 else ''}"
        what = f"{count(len(names), 'configuration')} with {seeds}"
        console.print(f"Confirming, tier {number} of {len(planned)}: {what}.")
        try:
            tier = _train(options, space, sizes, console, began, test_images or 0)
        except TooShort:
            if number == 1:  # of the whole budget, not of what is left of it
                raise
            say_out_of_time(options, console)
            return
        outcome.code, outcome.failed = tier.code, outcome.failed + tier.failed
        outcome.trainings += tier.trainings
        outcome.whole = tier.whole and number == len(planned)
        goes_on = number < len(planned) and tier.whole and not tier.code
        if not (goes_on and begun(run / CONFIRM / str(number + 1))):
            yield outcome
        if not goes_on:
            return
        names = promoted(plan, _accuracies(tier.trainings))


def _tier_options(
    run: Path,
    said: Mapping[str, Any],
    space: "Space",
    number: int,
    repeats: int,
    given: Mapping[str, Any],
    ensemble: bool,
) -> Options:
    """A tier as a run: the search's settings, but for its space, and a seed of its own."""
    from search.confirm_plan import tier_seed

    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in said["arguments"].items()}
    settings |= {name: given[name] for name in ("time_budget", *ON_WHAT) if given[name] is not None}
    own = {"space": CONFIRM, "sampler": "grid", "scheduler": "none", "repeats": repeats}
    own |= {"seed": tier_seed(said["seed"], number), "trials": None, "audit": None, "ensemble": ensemble}
    own |= {name: given[name] for name in ("command", "goes_on")}
    where = {"name": str(number), "out": run / CONFIRM, "cache": Path(given["cache"])}
    return resolve({**settings, **own, **where}, space)


def _train(
    options: Options, space: "Space", sizes: "Sizes", console: "Console", began: float, test_images: int
) -> Tier:
    """Trains what a tier lacks and writes its leaderboard."""
    since = time.monotonic()
    from results.leaderboard import leaderboard, write_leaderboard
    from search.confirm_plan import whole_seeds
    from search.outcome import say_failed
    from search.record import entered
    from search.session import train_left

    with entered(options, space, next(iter(sizes.values()))):
        study, code = train_left(options, space, sizes, test_images, console, began, since)
        trials = study.frozen()
        table = leaderboard(options.run, trials, space.objective, sizes)
        write_leaderboard(options.run, table)
    seeds = {trial.number: trial.user_attrs["config"]["seed"] for trial in trials}
    counted = whole_seeds(trials, options.trials // options.repeats)
    rows = {int(row["trial"]): row for row in table.to_dict("records") if row["state"] == "COMPLETE"}
    trainings = [
        Training(
            row["configuration"],
            seeds[trial],
            float(row["valid_accuracy"]),
            int(row["epochs"]),
            float(row["seconds"]),
            int(row["parameters"]),
        )
        for trial, row in sorted(rows.items())
        if seeds[trial] in counted
    ]
    whole = sum(trial.state.is_finished() for trial in trials) == options.trials
    return Tier(code, trainings, say_failed(options, study, console), whole)


def _accuracies(trainings: Sequence[Training]) -> dict[str, dict[int, float]]:
    """Of each configuration, by seed."""
    found: dict[str, dict[int, float]] = {}
    for one in trainings:
        found.setdefault(one.configuration, {})[one.seed] = one.accuracy
    return found


def _found(plan: "Plan", outcome: Outcome, seed: int, images: int) -> "Confirmation | None":
    """What the trainings say; None where no noise can be told from them yet.

    Raises:
        UserError: where none can be told though nothing is left to train.
    """
    import numpy as np

    from results.confirmation import Searched, Tried, confirmation

    tried: list[Tried] = []
    for name, accuracies in _accuracies(outcome.trainings).items():
        own = [one for one in outcome.trainings if one.configuration == name]
        epoch = sum(one.seconds for one in own) / sum(one.epochs for one in own)
        tried.append(Tried(name, plan.settings[name], accuracies, epoch, own[0].parameters))
    if not outcome.whole and all(len(one.accuracies) < 2 for one in tried):
        return None
    tried.sort(key=lambda one: list(plan.configurations).index(one.name))
    searched = Searched(plan.winner, plan.accuracy, plan.compared, plan.objective)
    return confirmation(tried, searched, plan.default, images, np.random.default_rng(seed))


def _to_json(plan: "Plan", outcome: Outcome, found: "Confirmation") -> dict[str, Any]:
    """What confirm.json says."""
    facts = {"top": plan.top, "seeds": plan.seeds, "whole": outcome.whole, "format": FORMAT, **asdict(found)}
    return {**facts, "sentences": _sentences(plan, outcome, found)}


def _sentences(plan: "Plan", outcome: Outcome, found: "Confirmation") -> list[str]:
    """What was found, and that it is not all where it is not."""
    from results.confirmation_text import sentences

    if outcome.whole:
        return sentences(found)
    trained = len({one.seed for one in outcome.trainings})
    return [f"Not all yet: of {plan.seeds} seeds the first {trained}; the others may change this.", *sentences(found)]


def _show(run: Path, plan: "Plan", outcome: Outcome, found: "Confirmation", console: "Console") -> None:
    from results.confirmation_text import render

    console.print()
    console.print(render(found))
    console.print()
    for sentence in _sentences(plan, outcome, found):
        say(console, sentence)
    console.print(f"Wrote {run / 'confirm.json'}", soft_wrap=True)


if __name__ == "__main__":
    process(main)
