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

from results.fingerprint import code_fingerprint, versions
from results.members import Member, Run, trials_compared
from results.selection import Selection
from results.submission import PROBABILITIES, SUBMISSION, Submission
from trainable import files
from trainable.checkpoint import file_hash
from trainable.device import choose
from trainable.errors import UserError

FORMAT = 1
MANIFEST, HISTORY = "ensemble.json", "ensembles"
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
                "checkpoint_sha256": member.sha256,
                "weight": weight,
            }
            for member, weight in zip(members, chosen.weights, strict=True)
        ],
        "runs": [
            {
                "path": relative(run.folder, home),
                "code": run.record.get("code"),
                "splits_sha256": file_hash(run.folder / "splits.csv"),
            }
            for run in runs
        ],
        "objective": first.objective,
        "trials_compared": trials_compared(runs),
        "holdout_images": selection.images,
        "scores": {name: dataclasses.asdict(score) for name, score in selection.scores.items()},
        "single": dataclasses.asdict(selection.single),
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
    folder = home / HISTORY / sha256(content)[:12]
    folder.mkdir(parents=True, exist_ok=True)
    for place in (folder, home):
        for name in NAMES:
            if name in written:
                files.write_bytes(place / name, written[name])
            else:  # an earlier ensemble's, which its own folder keeps
                (place / name).unlink(missing_ok=True)
    return folder


def check_kept(home: Path) -> None:
    """Raises UserError for a file that the next ensemble would replace and that no folder in `ensembles/` keeps."""
    for name in NAMES:
        path = home / name
        if path.is_file():
            content = path.read_bytes()
            if all(kept.read_bytes() != content for kept in home.glob(f"{HISTORY}/*/{name}")):
                raise UserError(f"{path} was not written by this program, or was changed since; move it away first.")


def read_manifest(path: Path) -> tuple[Manifest, Path]:
    """A manifest and its HOME. Raises UserError, naming the file, for anything else."""
    try:
        manifest = json.loads(path.read_text())
        if manifest["format"] != FORMAT:
            raise UserError(f"{path} has format {manifest['format']}; this program reads format {FORMAT}.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not an ensemble's manifest, or is damaged ({error!r}).") from None
    folder = path.resolve().parent
    return manifest, folder.parent.parent if folder.parent.name == HISTORY else folder


def relative(folder: Path, home: Path) -> str:
    """The path of `folder` as seen from `home`, with '/'."""
    return Path(os.path.relpath(folder.resolve(), home.resolve())).as_posix()


def sha256(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()
