"""python -m search.run: from labelled images to a leaderboard."""

import math
import re
import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.cli import FAILED, FAILED_TRIALS, command_text, exit_code, process, say
from search.options import ON_WHAT, Options, again, flag, image_size, out_option, parser, resolve
from trainable.errors import UserError

if TYPE_CHECKING:  # --help must not wait for torch and Ray
    from rich.console import Console

    from spaces.space import Given, Space
    from trainable.dataset import LabelledData

    Sizes = Mapping[int, LabelledData]  # the data at each image size


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code."""
    began = time.monotonic()
    arguments = {**vars(parser().parse_args(argv)), "command": command_text("search.run", argv)}
    return exit_code(lambda: _command(arguments, began), arguments["debug"])


def _command(arguments: dict[str, Any], began: float) -> int:
    import optuna

    from results.tree import check_tree
    from search.fetch import fetch
    from search.plain import Plain
    from search.record import remembering, resumed
    from search.storage import connect
    from search.track import check_tools
    from spaces.loading import load, names
    from trainable import named

    console = Plain()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    named.note(arguments)
    if arguments["list_spaces"]:
        fitting = ("list_spaces", "space", "inputs", "target", "image_size", "debug", "command")
        others = [name for name, value in arguments.items() if value and name not in fitting]
        if others:
            raise UserError(
                f"--list-spaces goes with --space, --inputs, --target and --image-size, not with {flag(others[0])}."
            )
        list_spaces([arguments["space"]] if arguments["space"] else names(), given_of(arguments), console)
        return 0
    given = arguments
    if arguments["resume"] is not None:
        if arguments["name"] not in (None, arguments["resume"]):
            raise UserError("--resume and --name name two runs; give one of them.")
        out = arguments["out"] or Path("runs")
        check_tree(out / arguments["resume"])
        if arguments["storage"]:
            run = (out / arguments["resume"]).absolute()
            fetch(run, connect(arguments["storage"], run), console)
        given = resumed(arguments, out, arguments["resume"])
    if arguments["split"] is not None and given["folds"]:
        why = "give one of them" if arguments["folds"] else f"the run '{given['name']}' has --folds {given['folds']}"
        raise UserError(f"--split and --folds divide the images in two ways; {why}.")
    space = load(given["space"] or "dropout", given_of(given))
    options = resolve(given, space)
    if arguments["resume"] is None:
        check_tree(options.run)
    if given["storage"] is None:
        options = remembering(options)
    check_sampler(options, space, console)
    check_tools(options.track)
    return search(options, space, console, began)


def check_sampler(options: Options, space: "Space", console: "Console") -> None:
    """Warns of parameters that the sampler cannot model. Raises UserError where it can model none, or does not know
    what to take of one."""
    from search.samplers import unmodelled
    from spaces.check import check_searched_by_grid
    from spaces.space import modelled_by_all, parameters

    if options.sampler == "grid":
        check_searched_by_grid(space, options.space)
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
        say(console, f"Warning: {options.sampler} cannot model {listed}: drawn at random")


def given_of(arguments: Mapping[str, Any]) -> "Given":
    """What a space may depend on."""
    from spaces.space import Given

    size = arguments["image_size"] or image_size(arguments["data"])
    return Given(tuple(arguments["inputs"] or ()), arguments["target"], size)


def list_spaces(spaces: Sequence[str], given: "Given", console: "Console") -> None:
    """Prints each space with its parameters; where it depends on columns that are not given, with the report's."""
    from dataclasses import replace

    from rich.padding import Padding
    from rich.table import Table

    from spaces.loading import load
    from spaces.space import parameters

    given = replace(given, inputs=given.inputs or ("Gender", "Race"), target=given.target or "Age")
    console.print(f"With --inputs {','.join(given.inputs)} and --target {given.target}:", style="dim")
    for name in spaces:
        space = load(name, given)
        say(console, f"{name}: {space.summary}", style="bold")
        kind = f"grid of {' x '.join(str(len(values)) for values in space.grid.values())}" if space.grid else "no grid"
        say(
            console,
            f"  {space.epochs} epochs, by {space.objective}, {space.sampler}, {space.scheduler}; "
            f"{len(space.starts)} known starts; {kind}",
        )
        rows = Table.grid(padding=(0, 1))
        rows.add_column(min_width=16, no_wrap=True)
        rows.add_column(overflow="fold")
        for parameter, values in parameters(space).items():
            rows.add_row(parameter, values)
        console.print(Padding.indent(rows, 2))
        console.print()


def search(options: Options, space: "Space", console: "Console", began: float) -> int:
    """Runs or goes on with a search, and returns the exit code.

    Args:
        began: time.monotonic() at the command's start, from which the time budget counts.
    """
    from search import record
    from search.mirror import Mirror
    from search.mirrored import while_mirrored
    from search.storage import connect

    storage = connect(options.storage, options.run) if options.storage else None
    if storage is not None:
        Mirror(options.run, storage).check()  # before the data are read, which may take long
    earlier = record.to_go_on_with(options.run)
    if earlier is not None:
        record.check_same(earlier, options, space, None)
    sizes = prepare(options, space, console, earlier)
    data = next(iter(sizes.values()))  # they differ in their pixels alone
    test_images = _check_test(options, sizes, console)

    def work() -> int:
        with record.entered(options, space, data):
            code = _train(options, space, sizes, test_images, console, began)
        return _afterwards(options, code, test_images, console, began)

    deadline = math.inf if options.time_budget is None else began + options.time_budget
    return while_mirrored(work, options.run, storage, console, deadline)


def _afterwards(options: Options, code: int, test_images: int, console: "Console", began: float) -> int:
    """What was asked for besides the search, which ended with a code. Returns that of it all."""
    if code not in (0, FAILED_TRIALS):
        return code
    confirmed = 0
    if options.confirm:
        try:
            confirmed = confirm_best(options, test_images, console, began)
        except UserError as error:  # nothing can be confirmed, but something may be combined
            say(console, f"Not confirmed: {error}")
            confirmed = FAILED
        else:
            if confirmed not in (0, FAILED_TRIALS):
                return confirmed
    made = build_ensemble(options, console) if options.ensemble else 0
    if options.ensemble or confirmed == FAILED:  # else the confirmation has said it
        console.print(f"Look: {report_command(options)}", soft_wrap=True)
    return made or confirmed or code


def prepare(
    options: Options, space: "Space", console: "Console", earlier: Mapping[str, Any] | None
) -> "dict[int, LabelledData]":
    """Reads, checks, decodes and splits the data, and says what it found. Returns it at each size of the space.

    Args:
        earlier: the record of the run that goes on, with the split that it has; None for a new one.
    """
    from search import record
    from spaces.space import orders_classes
    from trainable.dataset import load_labelled, parse_age_groups, parse_fractions

    load = partial(
        load_labelled,
        options.data,
        inputs=options.inputs,
        target=options.target,
        age_groups=parse_age_groups(options.age_groups),
        fractions=parse_fractions(options.split),
        folds=options.folds,
        seed=options.seed,
        cache=options.cache,
        progress=True,
    )
    split_file = None if earlier is None else options.run / record.SPLITS
    wanted = space.image_sizes or (options.image_size,)
    try:
        sizes = {size: load(image_size=size, split_file=split_file) for size in wanted}
    except UserError as error:
        if earlier is None:
            raise
        # No split fits other data: then it is they that are to be named.
        record.check_data(earlier, options, load(image_size=wanted[0]))
        raise UserError(f"{error}. Put the data and the split back as they were, or choose another --name.") from None
    data = sizes[wanted[0]]
    for warning in data.warnings:
        say(console, f"Warning: {warning}")
    classes = data.table.classes
    if orders_classes(space) and not rising(classes):
        say(
            console,
            f"Warning: the space '{space.name}' may choose coral or soft_ordinal, which learn the classes as steps of "
            f"one scale, here in the order {', '.join(classes[:3])}{', ...' if len(classes) > 3 else ''}",
        )
    say(
        console,
        f"Data: {options.data}, {len(data.table.images)} images of {len(data.table.classes)} classes: "
        f"{record.sides_text(data.split.counts())}",
    )
    return sizes


def rising(classes: Sequence[str]) -> bool:
    """Whether classes begin with rising numbers, as 0, 1, 2 or 0-9, 10-19, 20-29: then they are steps in order."""
    numbers = [int(match[0]) if (match := re.match(r"\d+", name)) else -1 for name in classes]
    return min(numbers) >= 0 and all(one < next_one for one, next_one in pairwise(numbers))


def _check_test(options: Options, sizes: "Sizes", console: "Console") -> int:
    """Validates what --test names and decodes it at each image size, before anything is trained. Returns how many
    images it has."""
    from trainable.dataset import decode, load_test

    size, data = next(iter(sizes.items()))
    if options.test is None:
        return len(data.test.images) if data.test and options.ensemble else 0
    known = data.vocabulary(options.inputs, data.split.trained)
    table, warnings = load_test(options.test, known, image_size=size, cache=options.cache, progress=True)
    for other in [*sizes][1:]:
        decode(table, other, options.cache, progress=True)
    for warning in warnings:
        say(console, f"Warning: {warning}")
    return len(table.images)


def _train(options: Options, space: "Space", sizes: "Sizes", test_images: int, console: "Console", began: float) -> int:
    """Trains the trials that are left, writes and prints the leaderboard, says what is next; returns the exit code."""
    from optuna.trial import TrialState

    from search.outcome import say_audit, say_failed, show_leaderboard
    from search.session import train_left
    from search.track import look

    study, code = train_left(options, space, sizes, test_images, console, began, began)
    show_leaderboard(options, space, sizes, study, console)
    say_audit(options, study, console)
    failed = say_failed(options, study, console)
    code = FAILED_TRIALS if failed and code == 0 else code
    where = f"{options.name}{out_option(options)}"
    more = code in (0, FAILED_TRIALS) and (options.confirm or options.ensemble)  # to be reported on
    for command in (*([] if more else [report_command(options)]), *look(options.track, options.run)):
        console.print(f"Look: {command}", soft_wrap=True)
    if code in (0, FAILED_TRIALS) and failed < len(study.frozen()) and not more:
        test = " --test CSV|FOLDER" if next(iter(sizes.values())).test is None else ""
        if any(trial.state == TrialState.COMPLETE for trial in study.frozen()):
            console.print(f"Next, whether the best is any better: python -m search.confirm {where}", soft_wrap=True)
        console.print(f"Next: python -m search.ensemble {where}{test}", soft_wrap=True)
    return code


def report_command(options: Options) -> str:
    """The command that shows what the run has found."""
    return f"python -m search.report {options.name}{out_option(options)}"


def confirm_best(options: Options, test_images: int, console: "Console", began: float) -> int:
    """Confirms the search's best, as search.confirm does. Returns its exit code.

    Args:
        test_images: how many images the ensemble will predict after it, where there is to be one.
        began: time.monotonic() at the command's start, from which the time budget counts.
    Raises:
        UserError: where nothing can be confirmed.
    """
    from search.confirm import confirm

    given = {name: getattr(options, name) for name in ("space", "cache", "time_budget", "command", *ON_WHAT)}
    given |= {"top": None, "seeds": None, "goes_on": again(options)}
    console.print()
    return confirm(options.run, given, console, began, test_images if options.ensemble else None)


def build_ensemble(options: Options, console: "Console") -> int:
    """Builds and shows the run's ensemble. Returns 0, or 1 where there is nothing to build it from."""
    from search import ensemble

    asked = ensemble.EnsembleOptions(runs=(str(options.run),), test=options.test, cache=options.cache)
    try:
        made = ensemble.build_ensemble(asked, progress=True)
    except UserError as error:
        say(console, f"No ensemble: {error}")
        return FAILED
    console.print()
    ensemble.show(made, console)
    return 0


if __name__ == "__main__":
    process(main)
