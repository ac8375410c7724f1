"""python -m search.run: from labelled images to a leaderboard."""

import signal
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.cli import FAILED, FAILED_TRIALS, TERMINATED, exit_code
from search.options import Options, flag, out_option, parser, resolve
from trainable.errors import UserError

if TYPE_CHECKING:  # --help must not wait for torch and Ray
    from rich.console import Console

    from spaces.space import Space
    from trainable.dataset import LabelledData


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code."""
    began = time.monotonic()
    arguments = vars(parser().parse_args(argv))
    return exit_code(lambda: _command(arguments, began), arguments["debug"])


def _command(arguments: dict[str, Any], began: float) -> int:
    import optuna
    from rich.console import Console

    from search.record import resumed
    from spaces.space import load, names

    # No markup: file names and classes are shown as they are.
    console = Console(highlight=False, markup=False)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if arguments["list_spaces"]:
        others = [name for name, value in arguments.items() if value and name not in ("list_spaces", "space", "debug")]
        if others:
            raise UserError(f"--list-spaces goes with --space alone, not with {flag(others[0])}.")
        list_spaces([arguments["space"]] if arguments["space"] else names(), console)
        return 0
    given = arguments
    if arguments["resume"] is not None:
        if arguments["name"] not in (None, arguments["resume"]):
            raise UserError("--resume and --name name two runs; give one of them.")
        given = resumed(arguments, arguments["out"] or Path("runs"), arguments["resume"])
    space = load(given["space"] or "dropout")
    options = resolve(given, space)
    check_sampler(options, space, console)
    return search(options, space, console, began)


def check_sampler(options: Options, space: "Space", console: "Console") -> None:
    """Warns of parameters that the sampler cannot model. Raises UserError where it can model none."""
    from search.samplers import unmodelled
    from spaces.space import modelled_by_all, parameters

    known = set(parameters(space))
    every, numbers = modelled_by_all(space)
    blind = unmodelled(options.sampler, every, numbers, known)
    if blind and blind == known:
        raise UserError(
            f"--sampler: {options.sampler} can model no parameter of the space '{space.name}': it needs "
            "parameters that every trial has, and numbers; choose tpe or random."
        )
    if blind:
        listed = ", ".join(sorted(blind))
        console.print(f"Warning: {options.sampler} cannot model {listed}: drawn at random", soft_wrap=True)


def list_spaces(spaces: Sequence[str], console: "Console") -> None:
    """Prints each space with its parameters."""
    from spaces.space import load, parameters

    for name in spaces:
        space = load(name)
        console.print(f"{name}: {space.summary}", style="bold", soft_wrap=True)
        kind = f"grid of {' x '.join(str(len(values)) for values in space.grid.values())}" if space.grid else "no grid"
        console.print(
            f"  {space.epochs} epochs, by {space.objective}, {space.sampler}, {space.scheduler}; "
            f"{len(space.starts)} known starts; {kind}",
            soft_wrap=True,
        )
        for parameter, values in parameters(space).items():
            console.print(f"  {parameter:<16} {values}")
        console.print()


def search(options: Options, space: "Space", console: "Console", began: float) -> int:
    """Runs or goes on with a search, and returns the exit code.

    Args:
        began: time.monotonic() at the command's start, from which the time budget counts.
    """
    from search import record

    earlier = record.to_go_on_with(options.run)
    if earlier is not None:
        record.check_same(earlier, options, space, None)
    data = prepare(options, console, earlier)
    test_images = _check_test(options, data, console)
    with record.lock(options.run):
        earlier = record.to_go_on_with(options.run)
        if earlier is not None:
            record.check_same(earlier, options, space, data)
        record.write(options, space, data, earlier)
        code = _train(options, space, data, test_images, console, began)
    if options.ensemble and code in (0, FAILED_TRIALS):
        return build_ensemble(options, console) or code
    if code in (0, FAILED_TRIALS):
        test = " --test CSV|FOLDER" if data.test is None else ""
        console.print(f"Next: python -m search.ensemble {options.name}{out_option(options)}{test}", soft_wrap=True)
    return code


def prepare(options: Options, console: "Console", earlier: Mapping[str, Any] | None) -> "LabelledData":
    """Reads, checks, decodes and splits the data, and says what it found.

    Args:
        earlier: the record of the run that goes on, with the split that it has; None for a new one.
    """
    from search import record
    from trainable.dataset import load_labelled, parse_age_groups, parse_fractions

    load = partial(
        load_labelled,
        options.data,
        inputs=options.inputs,
        age_groups=parse_age_groups(options.age_groups),
        image_size=options.image_size,
        fractions=parse_fractions(options.split),
        seed=options.seed,
        cache=options.cache,
        progress=True,
    )
    try:
        data = load(split_file=None if earlier is None else options.run / record.SPLITS)
    except UserError as error:
        if earlier is None:
            raise
        # No split fits other data: then it is they that are to be named.
        record.check_data(earlier, options, load())
        raise UserError(f"{error}. Put the data and the split back as they were, or choose another --name.") from None
    for warning in data.warnings:
        console.print(f"Warning: {warning}", soft_wrap=True)
    sides = [int((data.split == side).sum()) for side in range(3)]
    console.print(
        f"Data: {options.data}, {len(data.table.images)} images of {len(data.table.classes)} classes: "
        f"{sides[0]} train, {sides[1]} valid, {sides[2]} holdout",
        soft_wrap=True,
    )
    return data


def _check_test(options: Options, data: "LabelledData", console: "Console") -> int:
    """Validates and decodes what --test names, before anything is trained. Returns how many images it has."""
    from trainable.dataset import load_test

    if options.test is None:
        return len(data.test.images) if data.test and options.ensemble else 0
    known = data.vocabulary(options.inputs)
    table, warnings = load_test(options.test, known, image_size=options.image_size, cache=options.cache, progress=True)
    for warning in warnings:
        console.print(f"Warning: {warning}", soft_wrap=True)
    return len(table.images)


def _train(
    options: Options, space: "Space", data: "LabelledData", test_images: int, console: "Console", began: float
) -> int:
    """Trains the trials that are left, writes and prints the leaderboard, and returns the exit code."""
    from optuna.trial import TrialState

    from search.session import train
    from search.study import Settings, StudyRecord
    from trainable.table import count

    settings = Settings(options.epochs, options.image_size, options.inputs, space.objective, options.seed)
    study = StudyRecord(options.run, space, options.sampler, settings, options.trials)
    if study.unfinished() or len(study.frozen()) < options.trials:
        code = train(options, data, test_images, study, console, began)
    else:
        done = count(len(study.frozen()), "trial")
        console.print(f"The run '{options.name}' has its {done} already: nothing is left to train.", soft_wrap=True)
        code = 0
    show_leaderboard(options, data, study, console)
    failed = [trial for trial in study.frozen() if trial.state == TrialState.FAIL]
    if failed:
        first = failed[0]
        console.print(
            f"{len(failed)} of {options.trials} trials failed; the first, {first.number:04d}: "
            f"{first.user_attrs['end']['reason']}",
            soft_wrap=True,
        )
    return FAILED_TRIALS if failed and code == 0 else code


def show_leaderboard(options: Options, data: "LabelledData", study: Any, console: "Console") -> None:
    """Writes leaderboard.csv and prints its head."""
    from results.leaderboard import leaderboard, render, write_leaderboard

    widths = {name: len(values) for name, values in data.vocabulary(options.inputs).items()}
    objective = study.settings.objective
    table = leaderboard(options.run, study.frozen(), objective, widths, len(data.table.classes))
    write_leaderboard(options.run, table)
    valid = int((data.split == 1).sum())
    console.print()
    console.print(render(table, objective, valid))
    console.print(
        f"By {objective} on {valid} validation images, ± one standard error; "
        f"the first is the best of {len(table)}, which flatters it.",
        soft_wrap=True,
    )
    console.print(f"Leaderboard: {options.run / 'leaderboard.csv'}", soft_wrap=True)


def build_ensemble(options: Options, console: "Console") -> int:
    """Builds and shows the run's ensemble. Returns 0, or 1 where there is nothing to build it from."""
    from search import ensemble

    asked = ensemble.EnsembleOptions(runs=(str(options.run),), test=options.test)
    try:
        made = ensemble.build_ensemble(asked, progress=True)
    except UserError as error:
        console.print(f"No ensemble: {error}", soft_wrap=True)
        return FAILED
    console.print()
    ensemble.show(made, console)
    return 0


if __name__ == "__main__":
    # While data is read or Ray starts, too, a SIGTERM ends the command in order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    sys.exit(main())
