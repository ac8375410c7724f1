"""python -m search.ensemble: from finished runs to weighed members, a submission and its manifest."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from search.cli import FAILED, Parser, exit_code, expanded, nameable, process, say
from search.options import ADDRESS
from trainable.errors import UserError

if TYPE_CHECKING:  # --help must not wait for torch
    from rich.console import Console

    from results.manifest import Manifest
    from results.members import Member, Run
    from results.scores import Estimate
    from results.selection import Score, Selection
    from trainable.dataset import LabelledData

METHODS = ("auto", "greedy", "convex", "uniform", "best", "single")
WIDE = 200  # characters; more than any row of scores
EXAMPLES = """examples:
  python -m search.ensemble                                  the run worked on last, its own test data
  python -m search.ensemble faces --test testdata.csv --sample-submission sample.csv
  python -m search.ensemble faces faces-2 --members 20       the best trials of two runs on one split
  python -m search.ensemble --verify runs/faces/ensemble.json

exit codes:
  0 done   1 failure, or --verify found a change   2 usage   130 Ctrl-C   143 SIGTERM; with --refit these can be resumed
"""


@dataclass(frozen=True)
class EnsembleOptions:
    """What an ensemble is to be made of."""

    runs: tuple[str, ...] = ()  # names below `out`, or folders, each with its confirmation; none: that worked on last
    out: Path = Path("runs")
    test: str | None = None  # a CSV or a folder; None: the data's own test part, if it has one
    sample_submission: Path | None = None
    members: int = 10
    method: str = "auto"
    output: Path | None = None  # a folder; None: the first run's
    cache: Path | None = None  # of decoded images; None: the run's
    seed: int = 0
    refit: bool = False  # train the members that have weight on all labelled rows, and predict with those
    address: str | None = None  # of the Ray cluster that does so; None: one on this machine

    def __post_init__(self) -> None:
        if self.members < 1:
            raise UserError(f"--members: {self.members} is not a number of members; it must be at least 1.")
        if self.seed < 0:
            raise UserError(f"--seed: {self.seed} is not a seed; it must be at least 0.")
        if self.address is not None and not self.refit:
            raise UserError("--address: nothing but --refit needs a cluster; add it, or leave --address out.")


@dataclass(frozen=True)
class Ensemble:
    """An ensemble that was made and written."""

    home: Path  # where the files are: the run's folder or --output
    folder: Path  # where they stay when a later ensemble replaces them in `home`
    manifest: "Manifest"
    selection: "Selection"
    warnings: tuple[str, ...]  # a line each


def build_ensemble(options: EnsembleOptions, *, progress: bool = False) -> Ensemble:
    """Chooses members, fits weights on the holdout, predicts the test data and writes everything.

    Args:
        progress: whether to show bars on stderr where that is a terminal.
    Raises:
        UserError: where a run, the test data or a file in the way makes it impossible; then nothing is written.
    """
    import numpy as np

    from results.manifest import check_kept, describe, write_ensemble
    from results.members import check_comparable, distinct_trials, find_run, load_member, load_run, with_confirmation
    from results.selection import select
    from results.submission import make_submission, own_test, predicting, read_test
    from search.plain import Plain
    from trainable import named
    from trainable.files import make_folder

    folders: dict[Path, Path] = {}  # by resolved path: a run may be given by name and by path
    for name in options.runs or (None,):
        for folder in with_confirmation(find_run(name, options.out)):
            folders.setdefault(folder.resolve(), folder)
    runs = [load_run(folder) for folder in folders.values()]
    check_comparable(runs)
    home = options.output or runs[0].folder
    existing = next(place for place in (home, *home.absolute().parents) if place.exists())
    if not existing.is_dir():
        raise UserError(f"--output: {existing} is a file, not a folder.")
    check_kept(home)
    cache = Path(named.chosen(runs[0].folder, runs[0].record, {"cache": options.cache}, "cache")["cache"])
    trials, notes = distinct_trials(runs, options.members)
    trials, waiting = with_holdouts(trials, cache)
    members = tuple(load_member(run, trial) for run, trial in trials)
    warnings = [*notes, *waiting]
    if all(member.state != "COMPLETE" for member in members):
        warnings.append("No trial has run its course yet; the members are unfinished ones.")
    logits = np.stack([member.logits for member in members])
    rng = np.random.default_rng(options.seed)
    selection = select(logits, runs[0].holdout_labels, options.method, rng, ranked_here=bool(runs[0].folds))

    own = options.test is None
    test = own_test(runs[0], cache) if own else options.test
    if test is None and options.sample_submission is not None:
        raise UserError("--sample-submission: there is no test data to compare it with; name it with --test.")
    submission = None
    chosen = selection.scores[selection.method]
    if options.refit:
        console = Plain(quiet=not progress)
        # What is wrong or missing is better said before hours of training.
        if test is None:
            say(console, "Note: no test data is known, so nothing will be predicted; name it with --test.")
        else:
            read_test(predicting(members, chosen.weights), test, options.sample_submission, cache, progress)
        members = refitted(members, chosen.weights, options.address, cache, console)
    if test is not None:
        submission = make_submission(
            members,
            chosen.weights,
            chosen.temperature,
            test,
            own=own,
            sample=options.sample_submission,
            cache=cache,
            progress=progress,
        )
        warnings += submission.warnings
    make_folder(home)
    manifest = describe(home, runs, members, selection, submission, asked=options.method, seed=options.seed)
    folder = write_ensemble(home, manifest, submission)
    return Ensemble(home, folder, manifest, selection, tuple(warnings))


def with_holdouts(
    trials: "Sequence[tuple[Run, str]]", cache: Path
) -> "tuple[tuple[tuple[Run, str], ...], tuple[str, ...]]":
    """The trials that have logits on the holdout, and a line for each run of which others were left out.

    Those of trials that were stopped before their end are made now, where the run and its labelled images can be had.

    Raises: UserError, saying why, where no trial has them.
    """
    from results.members import checkpoint_paths, without_holdout
    from search.labelled import labelled_again
    from search.record import lock
    from trainable.checkpoint import load_best
    from trainable.logits import add_holdout

    missing = without_holdout(trials)
    sizes: dict[tuple[Path, int], LabelledData] = {}
    failures: dict[Path, UserError] = {}  # what goes wrong with one trial of a run does so with the others
    for run, trial in missing:
        if run.folder in failures:
            continue
        try:
            with lock(run.folder):
                (checkpoint,) = checkpoint_paths(run, trial)
                size = load_best(checkpoint).config.image_size
                if (run.folder, size) not in sizes:
                    columns, purpose = run.record["arguments"]["inputs"], f"trial {trial} was stopped before its end"
                    sizes[run.folder, size] = labelled_again(run.folder, run.record, columns, size, cache, purpose)
                add_holdout(checkpoint.parent, sizes[run.folder, size], "auto")
        except UserError as error:
            failures[run.folder] = error
    still = {(run.folder, trial) for run, trial in without_holdout(missing)}
    if still and len(still) == len(trials):
        raise next(iter(failures.values()))
    notes = tuple(
        f"Trials of {folder} that were stopped early left out, as their holdout was not to be had: {error}"
        for folder, error in failures.items()
    )
    return tuple((run, trial) for run, trial in trials if (run.folder, trial) not in still), notes


def refitted(
    members: "Sequence[Member]", weights: Sequence[float], address: str | None, cache: Path, console: "Console"
) -> "tuple[Member, ...]":
    """The members, those with weight trained again on all labelled rows."""
    from search.refit import refit_members

    used = [member for member, weight in zip(members, weights, strict=True) if weight > 0]
    again = iter(refit_members(used, address, cache, console))
    return tuple(next(again) if weight > 0 else member for member, weight in zip(members, weights, strict=True))


def show(ensemble: Ensemble, console: "Console") -> None:
    """Prints members, scores, the choice and where the files are, within 80 columns."""
    for warning in ensemble.warnings:
        say(console, f"Note: {warning}")
    _show_members(ensemble, console)
    console.print()
    _show_scores(ensemble, console)
    console.print()
    _show_files(ensemble, console)


def _show_members(ensemble: Ensemble, console: "Console") -> None:
    from rich.table import Table

    from results.members import run_name

    manifest = ensemble.manifest
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False)
    for header in ("trial", "run", manifest["objective"], "weight"):
        table.add_column(header, no_wrap=header != "run", overflow="fold")
    for member in manifest["members"]:
        name = run_name(ensemble.home / member["run"])
        table.add_row(member["trial"], name, f"{member[manifest['objective']]:.4f}", f"{member['weight']:.3f}")
    console.print(table)


def _show_scores(ensemble: Ensemble, console: "Console") -> None:
    """What each method scores, and which was chosen why."""
    from rich.table import Table

    manifest, selection = ensemble.manifest, ensemble.selection
    n = selection.images
    kind = "images, each by the networks that did not learn from it" if manifest["folds"] else "holdout images"
    console.print(f"On {n} {kind}, with 95 % intervals:")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for header in ("", "log loss", "accuracy, %", "calibration, %", "gain, points"):
        table.add_column(header, no_wrap=True)
    for name, score in selection.scores.items():
        table.add_row(f"{'>' if name == selection.method else ' '} {name}", *_cells(score, gain=name != "single"))
    # Of few images the intervals are long: a line that is wider than the terminal stays whole.
    table.width = console.measure(table, options=console.options.update_width(WIDE)).maximum
    console.print(table, crop=False, soft_wrap=True)
    console.print(
        f"single: trial {manifest['members'][0]['trial']}, the best of {manifest['trials_compared']} on validation. "
        "gain: accuracy above it, paired. best, convex, greedy: scored on images that they were not fitted on. "
        "All with their one temperature."
    )
    if manifest["folds"]:
        console.print(
            f"The trials were ranked on these {n} images too, which flatters single, and makes the gains over it small."
        )
    console.print()
    chosen = selection.scores[selection.method]
    console.print(f"{selection.method}: {selection.reason}")
    alone = selection.method == "single"
    gain = "none, as it is that model." if alone else _verdict(chosen, n)
    console.print(f"Gain over the best single model: {gain}")


def _show_files(ensemble: Ensemble, console: "Console") -> None:
    """What was written, and by which networks the test images were predicted."""
    manifest = ensemble.manifest
    path = ensemble.home / "ensemble.json"
    if manifest["test"] is None:
        console.print(f"No test data, so no submission: name it with --test. Wrote {path}", soft_wrap=True)
        return
    if any(member["refit"] for member in manifest["members"]):
        console.print(
            "Predicted by networks trained again on all labelled images; the scores above are those of the trials, "
            "which learnt from fewer."
        )
    elif manifest["folds"]:
        console.print(
            f"Predicted by the mean of each member's {manifest['folds']} networks; the scores above are those of one "
            "network an image."
        )
    rows = manifest["test"]["images"]
    wrote = f"Wrote {ensemble.home / 'submission.csv'} ({rows} rows), probabilities.npz and ensemble.json."
    console.print(wrote, soft_wrap=True)
    console.print(f"Check it at any time: python -m search.ensemble --verify {shlex.quote(str(path))}", soft_wrap=True)


def _cells(score: "Score", *, gain: bool) -> tuple[str, str, str, str]:
    loss = score.log_loss
    return (
        f"{loss.value:.3f} ±{loss.high - loss.value:.3f}",
        _interval(score.accuracy),
        _interval(score.calibration_error),
        _interval(score.accuracy_gain, "+") if gain else "",
    )


def _interval(estimate: "Estimate", sign: str = "") -> str:
    # Adding 0.0 turns the -0.0 that rounding can leave into 0.0.
    value, low, high = (f"{round(100 * x, 1) + 0.0:{sign}.1f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _verdict(score: "Score", images: int) -> str:
    gain, saved = score.accuracy_gain, score.log_loss_gain
    noise = ", inside the noise" if gain.low <= 0 <= gain.high else ""
    return (
        f"{_interval(gain, '+')} points of accuracy{noise}; "
        f"{saved.value:+.3f} [{saved.low:+.3f}, {saved.high:+.3f}] nats of log loss saved; n = {images}."
    )


def show_verdict(path: Path, test: str | None, cache: Path | None, console: "Console") -> int:
    """Verifies a manifest, prints what was found, and returns the exit code: 1 where something has changed."""
    from results.verify import verify

    verdict = verify(path, test=test, cache=cache, progress=True)
    for change in verdict.changes:
        say(console, f"Changed: {change}")
    for remark in verdict.remarks:
        say(console, f"Note: {remark}")
    if verdict.changes:
        console.print(f"{path} cannot be made again as it was.", soft_wrap=True)
        return FAILED
    same = f"; {' and '.join(verdict.files)} made again, the same byte for byte" if verdict.files else ""
    console.print(f"{path} holds: checkpoints, split, weights and scores are the same{same}.", soft_wrap=True)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    defaults = EnsembleOptions()
    parser = Parser(
        prog="python -m search.ensemble",
        description="Combine the best trials of one or more runs and predict the test data.",
        epilog=EXAMPLES,
    )
    add = parser.add_argument
    add(
        "runs", nargs="*", type=nameable, metavar="RUN", help="a run's name or folder (default: the one worked on last)"
    )
    add("--test", type=nameable, metavar="CSV|FOLDER", help="the images to predict (default: the data's own test part)")
    add("--sample-submission", metavar="CSV", type=expanded, help="its ids must be the submission's, in order")
    add("--members", metavar="K", type=int, default=defaults.members, help="the most trials (default: %(default)s)")
    add(
        "--method",
        choices=METHODS,
        default=defaults.method,
        help="how to weigh them (default: %(default)s, the best on images that weights were not fitted on)",
    )
    add("--refit", action="store_true", help="train the members on all labelled images, and predict with those")
    add("--address", **ADDRESS)
    add("--output", metavar="DIR", type=expanded, help="where to write (default: the first run's folder)")
    add("--out", metavar="DIR", type=expanded, default=defaults.out, help="where runs are (default: %(default)s)")
    add("--cache", metavar="DIR", type=expanded, help="decoded images (default: the run's)")
    add("--seed", type=int, default=defaults.seed, help="of folds, bags and resamples (default: %(default)s)")
    add("--verify", metavar="JSON", type=expanded, help="make this ensemble.json again, or say what has changed")
    add("--debug", action="store_true", help="show the traceback of an error")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    arguments = vars(parser().parse_args(argv))
    path, debug = arguments.pop("verify"), arguments.pop("debug")

    def command() -> int:
        from search.plain import Plain
        from trainable import named

        named.note(arguments)
        console = Plain()
        options = EnsembleOptions(**{**arguments, "runs": tuple(arguments["runs"])})
        if path is not None:
            if options != EnsembleOptions(test=options.test, cache=options.cache):
                raise UserError("--verify makes an ensemble again as it was; beside it only --test and --cache go.")
            return show_verdict(path, options.test, options.cache, console)
        show(build_ensemble(options, progress=True), console)
        return 0

    return exit_code(command, debug)


if __name__ == "__main__":
    process(main)
