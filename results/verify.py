"""Makes an ensemble again from its manifest, and says what is no longer what it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from results.fingerprint import code_fingerprint, versions
from results.manifest import Manifest, read_manifest, sha256
from results.members import Member, Run, load_member, load_run
from results.selection import select
from results.submission import PROBABILITIES, make_submission
from trainable.checkpoint import file_hash
from trainable.device import choose
from trainable.errors import UserError

TOLERANCE = 1e-5  # of weights and temperature: another machine's optimiser stops at another last digit


@dataclass(frozen=True)
class Verdict:
    """What a verification found."""

    changes: tuple[str, ...]  # a line each; none: the ensemble is what its manifest says
    remarks: tuple[str, ...]  # a line each: what differs without harm, or may explain a change
    files: tuple[str, ...]  # what was made again, byte for byte


def verify(path: Path, *, test: str | None = None, cache: Path | None = None, progress: bool) -> Verdict:
    """Makes the ensemble of a manifest again: hashes checkpoints and splits, fits the weights, predicts.

    Args:
        path: an ensemble.json, in a run's folder or in its own.
        test: where the test data is now; None: where it was.
        cache: the folder of decoded images; None: the run's.
        progress: whether to show bars on stderr where that is a terminal.
    Raises:
        UserError: where the manifest itself cannot be read.
    """
    manifest, home = read_manifest(path)
    remarks = _surroundings(manifest)
    try:
        runs = {entry["path"]: load_run(home / entry["path"]) for entry in manifest["runs"]}
        members = [load_member(runs[entry["run"]], entry["trial"]) for entry in manifest["members"]]
    except UserError as error:
        return Verdict((str(error),), remarks, ())
    changes = _inputs(manifest, runs, members)
    if changes:  # what is made from other parts is another ensemble: there is nothing to compare
        return Verdict(changes, remarks, ())
    changes = _weights(manifest, members)
    if manifest["test"] is None:
        return Verdict(changes, remarks, ())
    try:
        submission = make_submission(
            members,
            [entry["weight"] for entry in manifest["members"]],
            manifest["temperature"],
            test or manifest["test"]["path"],
            sample=None,
            cache=cache or Path(members[0].run.data["cache"]),
            progress=progress,
        )
    except UserError as error:
        return Verdict((*changes, str(error)), remarks, ())
    if submission.test["fingerprint"] != manifest["test"]["fingerprint"]:
        return Verdict((*changes, "the test images, their order or their columns are others now"), remarks, ())
    return _compared(Verdict(changes, remarks, ()), manifest, path.parent, submission.files)


def _inputs(manifest: Manifest, runs: dict[str, Run], members: Sequence[Member]) -> tuple[str, ...]:
    """What differs in the runs and checkpoints."""
    changes = []
    for entry in manifest["runs"]:
        run = runs[entry["path"]]
        for key in ("fingerprint", "split_fingerprint", "classes"):
            if run.data[key] != manifest["data"][key]:
                changes.append(f"{run.folder / 'run.json'}: {key} is another now")
        if file_hash(run.folder / "splits.csv") != entry["splits_sha256"]:
            changes.append(f"{run.folder / 'splits.csv'} has changed")
    for member, entry in zip(members, manifest["members"], strict=True):
        if member.sha256 != entry["checkpoint_sha256"]:
            changes.append(f"{member.checkpoint} has changed: trial {member.trial} is another network now")
    return tuple(changes)


def _weights(manifest: Manifest, members: Sequence[Member]) -> tuple[str, ...]:
    """What differs in method, weights and temperature when they are fitted again."""
    logits = np.stack([member.logits for member in members])
    rng = np.random.default_rng(manifest["seed"])
    selection = select(logits, members[0].run.holdout_labels, manifest["asked"], rng)
    changes = []
    if selection.method != manifest["method"]:
        changes.append(_contrast("method", manifest["method"], selection.method))
    fitted = selection.scores[manifest["method"]]
    for member, entry, weight in zip(members, manifest["members"], fitted.weights, strict=True):
        if abs(entry["weight"] - weight) > TOLERANCE:
            changes.append(_contrast(f"weight of trial {member.trial}", f"{entry['weight']:.6g}", f"{weight:.6g}"))
    if abs(manifest["temperature"] / fitted.temperature - 1) > TOLERANCE:
        changes.append(_contrast("temperature", f"{manifest['temperature']:.6g}", f"{fitted.temperature:.6g}"))
    return tuple(changes)


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
        else:
            changes.append(f"{name}: made again, it is not the same byte for byte")
    return Verdict(tuple(changes), tuple(remarks), tuple(same))


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
