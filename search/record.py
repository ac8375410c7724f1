"""A run's own record: run.json, splits.csv, and the lock that keeps a second driver out."""

import fcntl
import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from results.fingerprint import code_fingerprint, versions
from search.options import FIXED, KEPT, Options, fixed, flag, kept, shown
from spaces.space import Space, cells, fingerprint, parameters
from trainable import files
from trainable.dataset import LabelledData, save_split
from trainable.errors import UserError, nearest

FORMAT = 1


@contextmanager
def lock(run: Path) -> Iterator[None]:
    """Holds the run's lock, which the system frees whenever the process ends. Raises UserError if another holds it."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"--out: {run} cannot be a folder ({error.strerror}).") from None
    with open(run / ".lock", "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(f"{run} is being worked on by process {file.read().strip() or 'unknown'}.") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def begun(run: Path) -> bool:
    """Whether the run has trials. One without is not held to its settings: its first command may have failed."""
    return (run / "trials").exists()


def to_go_on_with(run: Path) -> dict[str, Any] | None:
    """The record of a run that has begun, as `stored` gives it; None for a new one."""
    return stored(run) if begun(run) else None


def stored(run: Path) -> dict[str, Any] | None:
    """The run's record, or None where there is none yet. Raises UserError for one that cannot be read."""
    path = run / "run.json"
    if not path.exists():
        if begun(run):
            raise UserError(f"{run} has trials but no run.json, so the run cannot go on. Choose another --name.")
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = record["format"]
        if found == FORMAT:
            _ = [record[key] for key in ("arguments", "sessions", "created", "objective", "space", "data")]
            _ = [record["arguments"][name] for name in (*FIXED, *KEPT)]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged, so the run cannot go on. Choose another --name.") from None
    if found != FORMAT:
        raise UserError(f"{path} has format {found}; this version reads format {FORMAT}.")
    return record


def resumed(given: Mapping[str, Any], out: Path, name: str) -> dict[str, Any]:
    """What was given, filled with the settings of the run that is to be resumed.

    Raises:
        UserError: where there is no such run, with the nearest name; or where a given setting is not the run's.
    """
    record = stored(out / name)
    if record is None:
        known = [path.parent.name for path in out.glob("*/run.json")]
        raise UserError(f"--resume: {out} has no run called '{name}'{nearest(name, known) or '.'}")
    settings = dict(given, name=name)
    for field in (*FIXED, *KEPT):
        value = record["arguments"][field]
        if settings.get(field) is None:
            settings[field] = tuple(value) if isinstance(value, list) else value
    return settings


def check_same(record: Mapping[str, Any], options: Options, space: Space, data: LabelledData | None) -> None:
    """Raises UserError, saying what differs, unless a run is to go on as what it is.

    Files may have moved: of data, and of a space of the user's own, the content counts.
    """
    then, now = record["arguments"], fixed(options)
    moved = {"data"} | ({"space"} if then["space"].endswith(".py") and now["space"].endswith(".py") else set())
    differences = [
        f"{flag(name)} {shown(then[name])}, not {shown(now[name])}"
        for name in FIXED
        if then[name] != now[name] and name not in moved
    ]
    if differences:
        raise UserError(
            f"the run '{options.name}' was made with {'; '.join(differences)}. "
            f"Choose another --name, or go on with its own settings: python -m search.run --resume {options.name}"
        )
    if record["space"]["fingerprint"] != fingerprint(space):
        raise UserError(
            f"the space '{options.space}' has changed since the run '{options.name}' was made: "
            f"{_space_difference(record, space)}. Choose another --name."
        )
    if data is not None and record["data"]["fingerprint"] != data.fingerprint:
        before, images = record["data"]["images"], len(data.table.images)
        what = f"{before} images then, {images} now" if before != images else f"the same number of images, {images}"
        raise UserError(
            f"the data of the run '{options.name}' has changed ({what}; "
            f"fingerprint {record['data']['fingerprint']}, not {data.fingerprint}). Choose another --name."
        )


def _space_difference(record: Mapping[str, Any], space: Space) -> str:
    if record["objective"] != space.objective:
        return f"its objective is {space.objective}, was {record['objective']}"
    then, now = record["space"], parameters(space)
    changes = [f"{name} is {now.get(name, 'gone')}, was {then['parameters'].get(name, 'absent')}"
               for name in {**then["parameters"], **now} if now.get(name) != then["parameters"].get(name)]  # fmt: skip
    return "; ".join(changes) or "its starts, its grid or the settings that it gives to a trial"


def write(options: Options, space: Space, data: LabelledData, earlier: Mapping[str, Any] | None) -> None:
    """Writes splits.csv and run.json; on resuming, only what may change changes."""
    run = options.run
    if earlier is None:
        (run / "study.journal").unlink(missing_ok=True)  # of a command that failed before its first trial
        save_split(run / "splits.csv", data.table, data.split)
    counts = {side: int((data.split == number).sum()) for number, side in enumerate(("train", "valid", "holdout"))}
    record = {
        "format": FORMAT,
        "name": options.name,
        "created": earlier["created"] if earlier else time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "sessions": earlier["sessions"] if earlier else [],
        "arguments": {**fixed(options), **kept(options)},
        "seed": options.seed,
        "objective": space.objective,
        "space": {
            "name": space.name,
            "summary": space.summary,
            "fingerprint": fingerprint(space),
            "parameters": parameters(space),
            "starts": [dict(start) for start in space.starts],
            "grid": None if space.grid is None else cells(space),
        },
        "data": {
            "source": fixed(options)["data"],
            "cache": str(options.cache),
            "fingerprint": data.fingerprint,
            "split_fingerprint": data.split_fingerprint,
            "images": len(data.table.images),
            "counts": counts,
            "classes": list(data.table.classes),
            "vocabulary": data.vocabulary(options.inputs),
            "inputs": list(options.inputs),
            "image_size": options.image_size,
            "age_groups": options.age_groups,
        },
    }
    files.write_json(run / "run.json", record)


def add_session(run: Path) -> list[str]:
    """Notes in run.json what is about to train: command, code, versions, hardware.

    Returns: a warning, if the code or PyTorch are not those of the session before: trials of both may not compare.
    """
    record = stored(run)
    assert record is not None
    session = {
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": shlex.join(["python", "-m", "search.run", *sys.argv[1:]]),
        "code": code_fingerprint(),
        "versions": {**versions(), **{name: version(name) for name in ("ray", "optuna")}},
        "hardware": {"machine": platform.machine(), "system": platform.platform(), "cpus": os.cpu_count()},
    }
    warnings = []
    for before in record["sessions"][-1:]:
        changed = ["the code"] if before["code"] != session["code"] else []
        changed += ["PyTorch"] if before["versions"]["torch"] != versions()["torch"] else []
        if changed:
            warnings.append(
                f"{' and '.join(changed)} changed since the run's last session; "
                "trials from before and after may not compare"
            )
    files.write_json(run / "run.json", {**record, "sessions": [*record["sessions"], session]})
    return warnings
