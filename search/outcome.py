"""What a search says of its trials when it ends."""

import shlex
from collections.abc import Mapping, Sequence

from optuna.trial import TrialState
from rich.console import Console

from results.audit import audit, sentences
from results.comparison import (
    Compared,
    Figure,
    compared,
    method_text,
    render_comparison,
    render_published,
    seeds_of,
)
from results.leaderboard import leaderboard, render, searched_columns, write_leaderboard
from search.cli import say
from search.options import Options
from search.record import stored
from search.study import StudyRecord
from spaces.space import Space
from trainable.dataset import LabelledData
from trainable.paths import trial_folder, trial_name
from trainable.table import count


def show_leaderboard(
    options: Options, space: Space, sizes: Mapping[int, LabelledData], study: StudyRecord, console: Console
) -> None:
    """Writes leaderboard.csv, prints its head, and compares configurations where there is something to compare."""
    objective = study.settings.objective
    table = leaderboard(options.run, study.frozen(), objective, sizes)
    write_leaderboard(options.run, table)
    valid = len(next(iter(sizes.values())).split.judged)
    console.print()
    console.print(render(table, objective, valid))
    ranked = int((table["state"] != "FAIL").sum())
    if ranked:
        say(
            console,
            f"By {objective} on {valid} validation images, ± one standard error; "
            f"the first is the best of {ranked}, which flatters it.",
        )
    console.print(f"Leaderboard: {options.run / 'leaderboard.csv'}", soft_wrap=True)
    if options.scheduler != "none":  # of equal settings those that the scheduler let live flatter the configuration
        if space.published is not None:
            say(
                console,
                f"Not beside the published figures, as {options.scheduler} stops trials; use --scheduler none.",
            )
        return
    found = compared(table, searched_columns(table), valid, seeds_of(study.frozen()))
    if any(len(one.accuracies) > 1 for one in found):
        _show_compared(found, valid, console)
    if space.published is not None and found:
        _show_published(options, space, found, valid, console)


def _show_compared(found: Sequence[Compared], valid: int, console: Console) -> None:
    console.print()
    console.print(render_comparison(found))
    say(
        console,
        f"Mean accuracy of each configuration on {valid} validation images, ± one standard error over its seeds, "
        f"or over the images where it ran once; against the best of {len(found)} with intervals that hold together "
        f"at 95 % ({method_text(found)}), 'noise' where they hold 0. It says nothing of other images: each is its "
        "best epoch on these.",
    )


def _show_published(options: Options, space: Space, found: Sequence[Compared], valid: int, console: Console) -> None:
    """Our figures beside those of others, which are of one parameter's values."""
    assert space.published is not None and space.grid is not None  # see spaces.check
    figures = {
        name: Figure(low, high, "".join(words), space.published_images)
        for name, (low, high, *words) in space.published.items()
    }
    (parameter,) = space.grid
    view, orders = render_published(found, parameter, figures)
    console.print()
    console.print(view)
    inputs = f"with {' and '.join(options.inputs)}" if options.inputs else "no metadata"
    say(
        console,
        f"Each with its own 95 % interval: ours over its seeds, or over the {valid} validation images where it ran "
        f"once; the published one over its {space.published_images}. Published: {space.published_by}. Ours: "
        f"{options.data} at {options.image_size} pixels, {inputs}, {count(options.epochs, 'epoch')}, on validation.",
    )
    say(console, orders)


def say_failed(options: Options, study: StudyRecord, console: Console) -> int:
    """Says how many trials failed, if any did, and why the first. Returns how many."""
    failed = [trial for trial in study.frozen() if trial.state == TrialState.FAIL]
    if failed:
        first = failed[0]
        say(
            console,
            f"{len(failed)} of {options.trials} trials failed; the first, {first.number:04d}: "
            f"{first.user_attrs['end']['reason']}",
        )
        traceback = trial_folder(options.run, trial_name(first.number)) / "error.txt"
        if traceback.exists():
            console.print(f"Where in the code: cat {shlex.quote(str(traceback))}", soft_wrap=True)
    return len(failed)


def say_audit(options: Options, study: StudyRecord, console: Console) -> None:
    """Says what stopping trials early cost, where that is audited."""
    record = stored(options.run)
    assert record is not None  # it is being trained
    found = audit(options.run, study.frozen(), record)
    for sentence in [] if found is None else sentences(found):
        say(console, sentence)
