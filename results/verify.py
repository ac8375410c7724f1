"""Makes an ensemble again from its manifest, and says what is no longer what it was."""

import csv
import dataclasses
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from results.fingerprint import code_fingerprint
from results.manifest import HISTORY, Manifest, is_kept, read_manifest, rows_seen, sha256
from results.members import Member, Run, checkpoint_paths, load_member, load_run, trials_compared
from results.selection import Selection, select
from results.submission import PROBABILITIES, SUBMISSION, make_submission, own_test
from trainable import named
from trainable.checkpoint import file_hash, load_best
from trainable.device import choose
from trainable.errors import UserError
from trainable.folds import fold_config
from trainable.node import versions
from trainable.table import count
from trainable.untrusted import read_arrays

TOLERANCE = 1e-5  # of weights and temperature: another machine's optimiser stops at another last digit
SCORE_TOLERANCE = 2e-4  # of scores, which follow the weights; finer than anything that is printed
PRECISION_TOLERANCE = 0.05  # of probabilities: bfloat16 and float32 were up to 0.024 apart, of 594 images
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Verdict:
    """What a verification found."""

    changes: tuple[str, ...]  # a line each; none: the ensemble is what its manifest says
    remarks: tuple[str, ...]  # a line each: what differs without harm, or may explain a change
    files: tuple[str, ...]  # what was made again, byte for byte


def verify(path: Path, *, test: str | None = None, cache: Path | None = None, progress: bool) -> Verdict:
    """Makes the ensemble of a manifest again: hashes checkpoints and splits, fits the weights, scores, predicts.

    A manifest also has to be the one that was written: byte for byte the copy in the folder named by its hash.

    Args:
        path: an ensemble.json, in a run's folder or in its own.
        test: where the test data is now; None: where it was.
        cache: the folder of decoded images; None: the run's.
        progress: whether to show bars on stderr where that is a terminal.
    Raises:
        UserError: where the manifest itself cannot be read, or the run's cache is not this user's to use.
    """
    manifest, home = read_manifest(path)
    remarks = _surroundings(manifest)
    edited: tuple[str, ...] = ()
    if not is_kept(path, home):
        edited = (f"{path} was changed since it was written: it is not what {home / HISTORY} keeps under its hash",)
    try:
        runs = {entry["path"]: load_run(home / entry["path"]) for entry in manifest["runs"]}
        changes = _inputs(manifest, home, runs)
        if changes:  # what is made from other parts is another ensemble: there is nothing to compare
            return Verdict((*edited, *changes), remarks, ())
        members = [
            dataclasses.replace(
                load_member(runs[entry["run"]], entry["trial"]),
                refit=None if entry["refit"] is None else refit_path(home, entry),
            )
            for entry in manifest["members"]
        ]
    except UserError as error:
        return Verdict((*edited, str(error)), remarks, ())
    logits = np.stack([member.logits for member in members])
    rng = np.random.default_rng(manifest["seed"])
    run = members[0].run
    selection = select(logits, run.holdout_labels, manifest["asked"], rng, ranked_here=bool(run.folds))
    changes = (
        *edited,
        *_rows(manifest, next(iter(runs.values()))),
        *_validation(manifest, members),
        *_weights(manifest, members, selection),
        *_scores(manifest, selection),
    )
    compared = trials_compared(list(runs.values()))
    if compared < manifest["trials_compared"]:
        said = f"trials_compared: the manifest says {manifest['trials_compared']}"
        changes = (*changes, f"{said}, the leaderboards have {compared}")
    elif compared > manifest["trials_compared"]:  # as where a run went on
        remarks = (*remarks, f"{compared} trials have a value now, and the manifest compared fewer")
    if manifest["test"] is None:
        return Verdict(changes, remarks, ())
    first = next(iter(runs.values()))
    cache = Path(named.chosen(first.folder, first.record, {"cache": cache}, "cache")["cache"])
    try:
        submission = make_submission(
            members,
            [entry["weight"] for entry in manifest["members"]],
            manifest["temperature"],
            _test_data(manifest, first, cache) if test is None else test,
            sample=None,
            cache=cache,
            progress=progress,
        )
    except UserError as error:
        return Verdict((*changes, str(error)), remarks, ())
    if submission.test["fingerprint"] != manifest["test"]["fingerprint"]:
        return Verdict((*changes, "the test images, their order or their columns are others now"), remarks, ())
    if submission.test["images"] != manifest["test"]["images"]:
        said = f"test images: the manifest says {manifest['test']['images']}"
        changes = (*changes, f"{said}, the test data has {submission.test['images']}")
    return _compared(Verdict(changes, remarks, ()), manifest, path.parent, submission.files)


def _test_data(manifest: Manifest, run: Run, cache: Path) -> str:
    """Where the test data is, if it is where it was. Raises UserError where the data has no test part any more."""
    test = own_test(run, cache) if manifest["test"]["own"] else manifest["test"]["path"]
    if test is None:
        raise UserError(f"{run.folder / 'run.json'}: the data has no test part of its own now")
    return str(test)


def refit_path(home: Path, entry: Mapping[str, Any]) -> Path:
    """The refit checkpoint of a member. Raises UserError for a path that leads out of its run."""
    path: Path = home / entry["refit"]["path"]
    if (home / entry["run"]).resolve() not in path.resolve().parents:
        raise UserError(f"the refit of trial {entry['trial']} is said to be at {path}, outside its run.")
    return path


def _is_refit(refit: Path, checkpoint: Path, run: Run) -> bool:
    """Whether a network has the configuration and epoch of a trial, whose first `checkpoint` is given.

    Raises: UserError where one of them is no checkpoint.
    """
    again, best = load_best(refit), load_best(checkpoint)
    config = fold_config(again.config, 0) if run.folds else again.config
    return (config, again.epoch) == (best.config, best.epoch)


def _inputs(manifest: Manifest, home: Path, runs: dict[str, Run]) -> tuple[str, ...]:
    """What differs in the runs and checkpoints. Raises UserError where a checkpoint is missing."""
    changes = []
    for entry in manifest["runs"]:
        run = runs[entry["path"]]
        for key in ("fingerprint", "split_fingerprint", "classes"):
            if run.data[key] != manifest["data"][key]:
                changes.append(f"{run.folder / 'run.json'}: {key} is another now")
        if run.objective != manifest["objective"]:
            changes.append(f"{run.folder / 'run.json'}: objective is another now")
        if file_hash(run.folder / "splits.csv") != entry["splits_sha256"]:
            changes.append(f"{run.folder / 'splits.csv'} has changed")
    for entry in manifest["members"]:
        checkpoints = checkpoint_paths(runs[entry["run"]], entry["trial"])
        expected = entry["checkpoint_sha256"]
        if len(checkpoints) != len(expected):
            said = f"the manifest has {len(expected)} checkpoints, the run {len(checkpoints)}"
            changes.append(f"{checkpoints[0].parent}: {said}")
        for checkpoint, known in zip(checkpoints, expected, strict=False):
            if file_hash(checkpoint) != known:
                changes.append(f"{checkpoint} has changed: trial {entry['trial']} is another network now")
        if entry["refit"] is not None:
            checkpoint = refit_path(home, entry)
            if not checkpoint.is_file() or file_hash(checkpoint) != entry["refit"]["sha256"]:
                changes.append(f"{checkpoint} is missing or has changed: it is the refit of trial {entry['trial']}")
            elif not _is_refit(checkpoint, checkpoints[0], runs[entry["run"]]):
                said = "trained with another configuration or for other epochs"
                changes.append(f"{checkpoint} is no refit of trial {entry['trial']}: it was {said}")
    return tuple(changes)


def _rows(manifest: Manifest, run: Run) -> tuple[str, ...]:
    """What differs in what the manifest says of the rows that each stage saw."""
    changes = []
    if manifest["folds"] != run.folds:
        changes.append(f"folds: the manifest says {manifest['folds']}, the runs have {run.folds}")
    refit = any(entry["refit"] is not None for entry in manifest["members"])
    for stage, found in rows_seen(run, refit=refit).items():
        if manifest["rows"].get(stage) != found:
            said = f"the manifest says '{manifest['rows'].get(stage)}', the runs have '{found}'"
            changes.append(f"rows, {stage}: {said}")
    return tuple(changes)


def _validation(manifest: Manifest, members: Sequence[Member]) -> tuple[str, ...]:
    """What differs between the manifest's members and the leaderboards' rows of them."""
    objective, changes = manifest["objective"], []
    for member, entry in zip(members, manifest["members"], strict=True):
        for name, recorded, found in (
            (objective, entry[objective], member.value),
            ("state", entry["state"], member.state),
        ):
            if not _alike(recorded, found, tolerance=0.0):
                said = f"{name} of trial {member.trial}: the manifest says {recorded}"
                changes.append(f"{said}, the leaderboard says {found}")
    return tuple(changes)


def _weights(manifest: Manifest, members: Sequence[Member], selection: Selection) -> tuple[str, ...]:
    """What differs in method, weights and temperature when they are fitted again."""
    changes = []
    if selection.method != manifest["method"]:
        changes.append(_contrast("method", manifest["method"], selection.method))
    fitted = selection.scores[manifest["method"]]
    for member, entry, weight in zip(members, manifest["members"], fitted.weights, strict=True):
        if not abs(entry["weight"] - weight) <= TOLERANCE:
            changes.append(_contrast(f"weight of trial {member.trial}", f"{entry['weight']:.6g}", f"{weight:.6g}"))
    if not abs(manifest["temperature"] / fitted.temperature - 1) <= TOLERANCE:
        changes.append(_contrast("temperature", f"{manifest['temperature']:.6g}", f"{fitted.temperature:.6g}"))
    return tuple(changes)


def _scores(manifest: Manifest, selection: Selection) -> tuple[str, ...]:
    """What differs in the numbers and words on the holdout when it is scored again: a line for each score."""
    changes = []
    if manifest["holdout_images"] != selection.images:
        changes.append(_contrast("holdout images", str(manifest["holdout_images"]), str(selection.images)))
    if sorted(manifest["scores"]) != sorted(selection.scores):
        changes.append(_contrast("methods", ", ".join(sorted(manifest["scores"])), ", ".join(sorted(selection.scores))))
    for method, score in selection.scores.items():
        for name, found in dataclasses.asdict(score).items():
            recorded = manifest["scores"].get(method)
            recorded = recorded.get(name) if isinstance(recorded, dict) else None
            for part, one, two in _differences(recorded, found):
                changes.append(_contrast(f"{name.replace('_', ' ')} of {method}{part}", _said(one), _said(two)))
    if not _alike_words(manifest["reason"], selection.reason):
        changes.append(_contrast("reason", f"'{manifest['reason']}'", f"'{selection.reason}'"))
    return tuple(changes)


def _differences(recorded: Any, found: Any, part: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two JSON values differ: a name in words for the place, and the two there."""
    if isinstance(found, dict) and isinstance(recorded, dict):
        for key, value in found.items():
            yield from _differences(recorded.get(key), value, part if key == "value" else f"{part}, {key}")
    elif isinstance(found, tuple) and isinstance(recorded, list) and len(recorded) == len(found):
        for position, pair in enumerate(zip(recorded, found, strict=True), start=1):
            yield from _differences(*pair, f"{part}, member {position}")
    elif not _alike(recorded, found, SCORE_TOLERANCE):
        yield part, recorded, found


def _alike(recorded: Any, found: Any, tolerance: float) -> bool:
    """Whether two JSON values are equal, or numbers within the tolerance, absolute or relative."""
    if isinstance(found, float) and isinstance(recorded, int | float):
        return math.isclose(recorded, found, rel_tol=tolerance, abs_tol=tolerance)
    return bool(recorded == found)


def _alike_words(recorded: str, found: str) -> bool:
    """Whether two sentences are the same but for the last digit of their numbers."""
    if NUMBER.sub("", recorded) != NUMBER.sub("", found):
        return False
    numbers = zip(NUMBER.findall(recorded), NUMBER.findall(found), strict=False)
    return all(_alike(float(one), float(two), SCORE_TOLERANCE) for one, two in numbers)


def _said(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _contrast(what: str, recorded: str, found: str) -> str:
    return f"{what}: the manifest says {recorded}, the holdout gives {found}"


def _compared(verdict: Verdict, manifest: Manifest, folder: Path, made: Mapping[str, bytes]) -> Verdict:
    """The verdict with what differs between the files made now, those that the manifest names, and those beside it."""
    changes, remarks, same = list(verdict.changes), list(verdict.remarks), []
    for name, content in made.items():
        path = folder / name
        if not path.is_file():
            changes.append(f"{path} does not exist")
        elif file_hash(path) != manifest["sha256"][name]:
            changes.append(f"{path} has changed since it was written")
        if sha256(content) == manifest["sha256"][name]:
            same.append(name)
        elif name == PROBABILITIES:  # another machine rounds differently, and what counts is the submission
            remarks.append(f"{name}: made again, it is not the same byte for byte")
        elif said := _rounding(manifest, folder, made):
            remarks.append(f"{name}: made again, {said}")
        else:
            changes.append(f"{name}: made again, it is not the same byte for byte")
    return Verdict(tuple(changes), tuple(remarks), tuple(same))


def _rounding(manifest: Manifest, folder: Path, made: Mapping[str, bytes]) -> str | None:
    """What to say of a submission that comes out otherwise because another device computes it; None: that is not why.

    What was written has to be one: each row's class is the likeliest by the probabilities that were written with it.
    And none of these may be further than PRECISION_TOLERANCE from what it is here.
    """
    try:
        if choose().reason == manifest["device"] or any(
            file_hash(folder / name) != manifest["sha256"][name] for name in made
        ):
            return None
        (written,) = read_arrays(folder / PROBABILITIES, "probabilities")
        rows = _rows_of((folder / SUBMISSION).read_bytes())
    except (OSError, ValueError, csv.Error):
        return None
    ours = _rows_of(made[SUBMISSION])
    with np.load(io.BytesIO(made[PROBABILITIES])) as arrays:
        shares, number = arrays["probabilities"], {name: at for at, name in enumerate(arrays["classes"].tolist())}
    if (written.shape, written.dtype) != (shares.shape, shares.dtype):
        return None
    if rows[:1] != ours[:1] or [row[:1] for row in rows] != [row[:1] for row in ours]:
        return None
    for (_, *name), likely in zip(rows[1:], written, strict=True):
        if len(name) != 1 or name[0] not in number or likely[number[name[0]]] != likely.max():
            return None
    apart = float(np.abs(written - shares).max(initial=0.0))
    if not apart <= PRECISION_TOLERANCE:
        return None
    others = sum(one != other for one, other in zip(rows, ours, strict=True))
    return (
        f"{others} of {count(len(written), 'row')} {'is' if others == 1 else 'are'} another: on this other device "
        f"probabilities differ by up to {apart:.2g}, which decides where two classes are near"
    )


def _rows_of(submission: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(submission.decode(), newline="")))


def _surroundings(manifest: Manifest) -> tuple[str, ...]:
    """How code, libraries and device differ from those that made the ensemble."""
    remarks = []
    if code_fingerprint() != manifest["code"]:
        remarks.append("the code of results/ or trainable/ has changed since")
    for name, now in versions().items():
        if now != manifest["versions"].get(name):
            remarks.append(f"{name} was {manifest['versions'].get(name)} and is {now}")
    device = choose().reason
    if device != manifest["device"]:
        remarks.append(f"the device was '{manifest['device']}' and is '{device}'")
    return tuple(remarks)
