"""ensemble.json: what an ensemble is made of, enough to make it again; and where its files go.

Every ensemble has a folder of its own, `ensembles/ID/`, and the latest also stands above, as plain copies: `HOME/` is
the run's folder or --output. Paths in a manifest are relative to HOME, so the whole can be moved, and both copies of
a manifest are the same bytes.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.fingerprint import code_fingerprint
from results.members import NUMBER, Member, Run, check_types, trials_compared
from results.scores import MAX_TEMPERATURE
from results.selection import AUTO, Selection
from results.submission import PROBABILITIES, SUBMISSION, Submission
from results.tree import check_entry
from results.weights import METHODS
from trainable import files
from trainable.checkpoint import file_hash
from trainable.device import choose
from trainable.errors import UserError, other_format, reason
from trainable.node import versions
from trainable.untrusted import parse_json

FORMAT = 2
MANIFEST, HISTORY = "ensemble.json", "ensembles"
WEIGHT_TOLERANCE = 1e-6  # of the sum of weights: rounding
NAMES = (SUBMISSION, PROBABILITIES, MANIFEST)  # the manifest last: it vouches for the others

Manifest = dict[str, Any]


def describe(
    home: Path,
    runs: Sequence[Run],
    members: Sequence[Member],
    selection: Selection,
    submission: Submission | None,
    *,
    asked: str,
    seed: int,
) -> Manifest:
    """The manifest of an ensemble, in JSON values.

    Args:
        asked: the method that was asked for; "auto" leaves the choice to the holdout.
        seed: of the generator that `selection` was made with.
        submission: None where there is no test data.
    """
    chosen = selection.scores[selection.method]
    first = runs[0]
    return {
        "format": FORMAT,
        "method": selection.method,
        "asked": asked,
        "reason": selection.reason,
        "seed": seed,
        "temperature": chosen.temperature,
        "members": [
            {
                "run": relative(member.run.folder, home),
                "trial": member.trial,
                "state": member.state,
                first.objective: member.value,
                "checkpoint_sha256": list(member.sha256),
                "weight": weight,
                "refit": None if member.refit is None else _refit(member.refit, home),
            }
            for member, weight in zip(members, chosen.weights, strict=True)
        ],
        "runs": [
            {
                "path": relative(run.folder, home),
                "code": sorted({session["code"] for session in run.record.get("sessions", [])}),
                "splits_sha256": file_hash(run.folder / "splits.csv"),
            }
            for run in runs
        ],
        "objective": first.objective,
        "trials_compared": trials_compared(runs),
        "folds": first.folds,
        "rows": rows_seen(first, refit=any(member.refit is not None for member in members)),
        "holdout_images": selection.images,
        "scores": {name: dataclasses.asdict(score) for name, score in selection.scores.items()},
        "data": {name: first.data[name] for name in ("fingerprint", "split_fingerprint", "classes")},
        "test": None if submission is None else dict(submission.test),
        "sha256": {name: sha256(content) for name, content in (submission.files if submission else {}).items()},
        "code": code_fingerprint(),
        "versions": versions(),
        "device": choose().reason,
    }


def write_ensemble(home: Path, manifest: Manifest, submission: Submission | None) -> Path:
    """Writes an ensemble's folder, then the copies in `home`. Returns the folder, `home/ensembles/ID`.

    The ID is a hash of the manifest, so the same ensemble made again is the same folder.
    Raises: UserError, before anything is written, where a copy in `home` would be lost (see `check_kept`).
    """
    check_kept(home)
    content = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
    written = {**(submission.files if submission else {}), MANIFEST: content}
    folder = _kept_folder(home, content)
    files.make_folder(folder)
    for place in (folder, home):
        for name in NAMES:
            if name in written:
                files.write_bytes(place / name, written[name])
            else:  # an earlier ensemble's, which its own folder keeps
                files.remove(place / name)
    return folder


def check_kept(home: Path) -> None:
    """Raises UserError for a file that the next ensemble would replace and that no folder in `ensembles/` keeps; and as
    `check_entry` does for what is in a file's place."""
    for name in NAMES:
        path = home / name
        check_entry(path)
        if path.is_file():
            content = path.read_bytes()
            if all(kept.read_bytes() != content for kept in home.glob(f"{HISTORY}/*/{name}")):
                raise UserError(f"{path} was not written by this program, or was changed since; move it away first.")


def read_manifest(path: Path) -> tuple[Manifest, Path]:
    """A manifest and its HOME. Raises UserError, naming the file, for anything else."""
    try:
        check_entry(Path(os.path.realpath(path)))  # the link that a user gives is the user's own
        manifest = parse_json(path.read_text(), finite=True)
        if manifest["format"] != FORMAT:
            raise UserError(other_format(path, manifest["format"], FORMAT))
        _check_shape(manifest)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not an ensemble's manifest, or is damaged ({reason(error)}).") from None
    folder = path.resolve().parent
    return manifest, folder.parent.parent if folder.parent.name == HISTORY else folder


def is_kept(path: Path, home: Path) -> bool:
    """Whether a manifest is what was written: byte for byte the one in the folder that is named by its hash."""
    content = path.read_bytes()
    kept = _kept_folder(home, content) / MANIFEST
    return kept.is_file() and kept.read_bytes() == content


def _kept_folder(home: Path, content: bytes) -> Path:
    """The folder of the ensemble whose manifest is `content`."""
    return home / HISTORY / sha256(content)[:12]


def _check_shape(manifest: Manifest) -> None:
    """Raises KeyError, TypeError or ValueError unless what `verify` reads is there and of its type."""
    check_types(
        manifest,
        {
            "folds": int,
            "rows": dict,
            "method": str,
            "asked": str,
            "reason": str,
            "seed": int,
            "temperature": NUMBER,
            "members": list,
            "runs": list,
        }
        | {"objective": str, "trials_compared": int, "holdout_images": int, "scores": dict, "data": dict}
        | {"test": (dict, type(None)), "sha256": dict, "code": str, "versions": dict, "device": str},
    )
    for run in manifest["runs"]:
        check_types(run, {"path": str, "splits_sha256": str})
    paths = [run["path"] for run in manifest["runs"]]
    for member in manifest["members"]:
        strings = dict.fromkeys(("run", "trial", "state"), str) | {"checkpoint_sha256": list}
        check_types(member, strings | {"weight": NUMBER, manifest["objective"]: NUMBER})
        if member["run"] not in paths:
            raise ValueError(f"no run has the path {member['run']}")
        check_types(member, {"refit": (dict, type(None))})
        if member["refit"] is not None:
            check_types(member["refit"], {"path": str, "sha256": str})
    check_types(manifest["data"], {"fingerprint": str, "split_fingerprint": str, "classes": list})
    if manifest["test"] is not None:
        check_types(manifest["test"], {"own": bool, "images": int, "fingerprint": str})
        check_types(manifest["test"], {"path": type(None) if manifest["test"]["own"] else str})
        check_types(manifest["sha256"], {SUBMISSION: str, PROBABILITIES: str})
    methods = [row.name for row in METHODS]
    if manifest["method"] not in methods or manifest["asked"] not in (AUTO, *methods):
        raise ValueError(f"no method is called {manifest['method']}, or none {manifest['asked']}")
    if not (manifest["members"] and manifest["seed"] >= 0):
        raise ValueError("without a member, or seed is negative")
    weights = [member["weight"] for member in manifest["members"]]
    shares = all(0 <= weight <= 1 + WEIGHT_TOLERANCE for weight in weights)
    if not (shares and abs(sum(weights) - 1) <= WEIGHT_TOLERANCE):
        raise ValueError("the weights are not numbers of at least 0 that sum to 1")
    if not 1 / MAX_TEMPERATURE <= manifest["temperature"] <= MAX_TEMPERATURE:
        raise ValueError(f"temperature is outside {1 / MAX_TEMPERATURE:g}..{MAX_TEMPERATURE:g}")


def _refit(checkpoint: Path, home: Path) -> dict[str, str]:
    return {"path": relative(checkpoint.parent, home) + f"/{checkpoint.name}", "sha256": file_hash(checkpoint)}


def rows_seen(run: Run, *, refit: bool) -> dict[str, str]:
    """Which rows each stage saw, in words: the counts are those of the first run, whose split all share."""
    counts = run.data["counts"]
    if not run.folds:
        trained, ranked, weighed = (f"{counts[side]} {side}" for side in ("train", "valid", "holdout"))
    else:
        total = sum(counts.values())
        trained = f"{run.folds} networks, each on all of {total} but its fold"
        ranked, weighed = f"{total} out of fold", f"{total} out of fold, the same that the trials are ranked on"
    everything = f"all {sum(counts.values())}, for as many epochs as were best before"
    return {
        "trials_learnt_from": trained,
        "trials_ranked_on": ranked,
        "weights_and_temperature_fitted_on": f"{weighed}, by the trials' own networks",
        "methods_scored_on": f"{weighed}, cross-fitted",
        "predicting_networks_learnt_from": everything if refit else trained,
        "an_image_is_predicted_by": "the mean of a member's networks"
        if run.folds and not refit
        else "one network a member",
    }


def relative(folder: Path, home: Path) -> str:
    """The path of `folder` as seen from `home`, with '/'."""
    return Path(os.path.relpath(folder.resolve(), home.resolve())).as_posix()


def sha256(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()
