"""A run's own record: run.json, splits.csv, and the lock that keeps a second driver out."""

import fcntl
import os
import platform
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from results.fingerprint import code_fingerprint
from results.members import ARGUMENTS, FORMAT, NUMBER, check_classes, check_types
from results.tree import check_tree
from search.options import CONFIRM, FIXED, KEPT, TRACK, Options, again, asked, check_ranges, fixed, flag, kept, shown
from search.study import JOURNAL, has_trial
from spaces.space import Space, cells, fingerprint, parameters
from trainable import files, named
from trainable.compiled import compiler_version
from trainable.config import Objective
from trainable.dataset import DIGITS, LabelledData, save_split
from trainable.errors import UserError, nearest, other_format, reason
from trainable.node import versions
from trainable.paths import TRIALS
from trainable.splits import SIDES
from trainable.table import count
from trainable.untrusted import parse_json

SPLITS = "splits.csv"


@contextmanager
def lock(run: Path) -> Iterator[None]:
    """Holds the run's lock, which the system frees whenever the process ends.

    Raises:
        UserError: where another process holds it; or as `check_tree` does.
    """
    try:
        files.make_folder(run)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"--out: {run} cannot be a folder ({error.strerror}).") from None
    check_tree(run)
    with open(run / ".lock", "a+", encoding="utf-8", opener=_open_no_link) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError(f"{run} is being worked on by process {file.read().strip() or 'unknown'}.") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _open_no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def begun(run: Path) -> bool:
    """Whether the run has trials, by their folders or by its study.

    One without is not held to its settings: its first command may have failed.
    """
    return any(path.is_dir() for path in run.glob(f"{TRIALS}/*")) or has_trial(run / JOURNAL)


def to_go_on_with(run: Path) -> dict[str, Any] | None:
    """The record of a run that has begun, as `stored` gives it; None for a new one."""
    return stored(run) if begun(run) else None


def stored(run: Path) -> dict[str, Any] | None:
    """The run's record, or None where there is none yet.

    Raises:
        UserError: where it cannot be read, or where a part is gone of a run that has begun.
    """
    path = run / "run.json"
    if begun(run):
        _check_whole(run)
    elif not path.exists():
        return None
    try:
        record: dict[str, Any] = parse_json(path.read_text(encoding="utf-8"))
        found = record["format"]
        if found == FORMAT:
            for name, value in (("audit", None), ("compile", "auto"), ("track", []), ("storage", "")):
                record["arguments"].setdefault(name, value)  # of a run from before it
            _check_shape(record)
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is not the record of a run, or is damaged ({reason(error)}). Put it back from a copy, or make the "
            "run anew under another name."
        ) from None
    if found != FORMAT:
        raise UserError(other_format(path, found, FORMAT))
    return record


def _check_shape(record: Mapping[str, Any]) -> None:
    """Raises KeyError, TypeError, ValueError or OverflowError unless all is there, and of its type, that a command
    reads of a run."""
    check_types(record, {"arguments": dict, "sessions": list, "created": str, "seed": int, "objective": str})
    check_types(record, {"space": dict, "data": dict})
    if record["objective"] not in get_args(Objective):
        raise ValueError(f"objective is {record['objective']!r}")
    _ = [record["arguments"][name] for name in (*FIXED, *KEPT)]
    check_types(record["arguments"], ARGUMENTS | dict.fromkeys(("space", "sampler", "scheduler"), str))
    check_types(
        record["arguments"],
        {"trials": int, "epochs": int, "audit": (*NUMBER, type(None)), "track": list, "storage": str},
    )
    check_ranges(record["arguments"])
    check_ranges({"seed": record["seed"]})
    if not set(record["arguments"]["track"]) <= set(TRACK):
        raise ValueError(f"track is {record['arguments']['track']!r}")
    check_types(record["space"], {"fingerprint": str, "parameters": dict})
    data = record["data"]
    check_types(data, dict.fromkeys(("source", "cache", "fingerprint", "split_fingerprint"), str))
    check_types(data, {"images": int, "image_size": int, "counts": dict, "classes": list})
    check_classes(data["classes"])
    check_types(data["counts"], dict.fromkeys(data["counts"] if record["arguments"]["folds"] else SIDES, int))
    for session in record["sessions"]:
        check_types(session, {"began": str, "command": str, "code": str, "versions": dict, "hardware": dict})
        datetime.fromisoformat(session["began"]).timestamp()
        check_types({"asked": "", **session}, {"asked": str})  # which runs from before it lack
        check_types(session["versions"], {"torch": str})
        check_types(session["hardware"], {"system": str, "cpus": (int, type(None))})


def _check_whole(run: Path) -> None:
    """Raises UserError, naming what is missing, unless all is there that a run with trials goes on from."""
    there = {
        "run.json": (run / "run.json").exists(),
        f"{JOURNAL} with its trials": has_trial(run / JOURNAL),
        f"{TRIALS}/": (run / TRIALS).is_dir(),
    }
    missing = [name for name, found in there.items() if not found]
    if missing:
        raise UserError(
            f"{run} has trials, but {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing. Put back "
            "what is missing, or make the run anew under another name."
        )


def remembering(options: Options) -> Options:
    """The options, with the storage that the run has if it has begun: of a command that names none.

    Raises:
        UserError: as `stored` and `named.chosen` do.
    """
    record = to_go_on_with(options.run)
    if record is None:
        return options
    return replace(options, storage=named.chosen(options.run, record, {}, "storage")["storage"])


def resumed(given: Mapping[str, Any], out: Path, name: str) -> dict[str, Any]:
    """What was given, filled with the settings of the run that is to be resumed.

    Raises:
        UserError: where there is no such run, with the nearest name; or as `stored` and `named.chosen` do.
    """
    record = stored(out / name)
    if record is None:
        known = [path.parent.name for path in out.glob("*/run.json")]
        raise UserError(f"--resume: {out} has no run called '{name}'{nearest(name, known) or '.'}")
    check_search(record, out / name, "--resume")
    settings = {**given, "name": name, **named.chosen(out / name, record, given, "space", "storage", "cache")}
    settings["cache"] = Path(settings["cache"])
    for field in (*FIXED, *KEPT):
        value = record["arguments"][field]
        if settings.get(field) is None:
            settings[field] = tuple(value) if isinstance(value, list) else value
    return settings


def check_search(record: Mapping[str, Any], run: Path, option: str) -> None:
    """Raises UserError for a run that is a part of another's confirmation."""
    if record["arguments"]["space"] == CONFIRM:
        searched = shlex.quote(str(run.parent.parent))
        raise UserError(
            f"{option}: {run} is a part of a confirmation, which goes on with: python -m search.confirm {searched}"
        )


def check_same(record: Mapping[str, Any], options: Options, space: Space, data: LabelledData | None) -> None:
    """Raises UserError, saying what differs, unless a run is to go on as what it is.

    Files may have moved: of data, and of a space of the user's own, the content counts.
    """
    then, now = record["arguments"], fixed(options)
    moved = {"data"} | ({"space"} if then["space"].endswith(".py") and now["space"].endswith(".py") else set())
    differences = [
        f"{flag(name)} {shown(then[name])}, not {shown(now[name])}"
        for name in FIXED
        if then[name] != now[name] and name not in moved and not (name == "split" and then["folds"])  # never used there
    ]
    if differences:
        raise UserError(
            f"the run '{options.name}' was made with {'; '.join(differences)}. "
            f"Choose another --name, or go on with its own settings: {again(options)}"
        )
    if record["space"]["fingerprint"] != fingerprint(space):
        raise UserError(
            f"the space '{options.space}' has changed since the run '{options.name}' was made: "
            f"{_space_difference(record, space)}. Choose another --name."
        )
    if data is not None:
        check_data(record, options, data)
        _check_split(record, options, data)


def check_data(record: Mapping[str, Any], options: Options, data: LabelledData) -> None:
    """Raises UserError, saying what differs, unless the images, their labels and columns are those of the run."""
    then, source, images = record["data"], fixed(options)["data"], len(data.table.images)
    if then["fingerprint"] != data.fingerprint:
        if then["source"] != source:
            raise UserError(
                f"the run '{options.name}' was made with other data: {then['source']} "
                f"({count(then['images'], 'image')}), not {source} ({count(images, 'image')}). Choose another --name."
            )
        what = f"{then['images']} images then, {images} now"
        if then["images"] == images:
            what = f"the same number of images, {images}"
        raise UserError(
            f"the data of the run '{options.name}' has changed ({what}; "
            f"fingerprint {then['fingerprint']}, not {data.fingerprint}). Choose another --name."
        )


def _check_split(record: Mapping[str, Any], options: Options, data: LabelledData) -> None:
    """Raises UserError unless each image is on the side of the run's split where it was."""
    if record["data"]["split_fingerprint"] == data.split_fingerprint:
        return
    path, counts, now = options.run / SPLITS, record["data"]["counts"], data.split.counts()
    then = {side: counts[side] for side in dict.fromkeys((*now, *counts)) if side in counts}  # JSON sorted them
    if not path.exists():
        raise UserError(
            f"{path} is missing, and the split that would be made now is not the run's. "
            "Put the file back, or choose another --name."
        )
    what = f"{sides_text(then)} then, {sides_text(now)} now"
    if then == now:
        what = f"{sides_text(now)} as before, but other images"
    raise UserError(
        f"the split of the run '{options.name}' has changed: {path} has {what}. "
        "Put the file back as it was, or delete it to have it made again, or choose another --name."
    )


def sides_text(counts: Mapping[str, int]) -> str:
    """'70 train, 15 valid, 15 holdout'."""
    return ", ".join(f"{number} {side}" for side, number in counts.items())


def _space_difference(record: Mapping[str, Any], space: Space) -> str:
    if record["objective"] != space.objective:
        return f"its objective is {space.objective}, was {record['objective']}"
    then, now = record["space"], parameters(space)
    changes = [f"{name} is {now.get(name, 'gone')}, was {then['parameters'].get(name, 'absent')}"
               for name in {**then["parameters"], **now} if now.get(name) != then["parameters"].get(name)]  # fmt: skip
    return "; ".join(changes) or "its starts, its grid, or what it or this version of the program sets for a trial"


def write(options: Options, space: Space, data: LabelledData, earlier: Mapping[str, Any] | None) -> None:
    """Writes splits.csv and run.json; on resuming, only what may change changes."""
    run, source = options.run, fixed(options)["data"]
    if earlier is None:
        files.remove(run / JOURNAL)  # of a command that failed before its first trial
    files.make_folder(run / TRIALS)  # before the first trial is asked for, so that a run without it has lost it
    save_split(run / SPLITS, data.table, data.split)  # when resuming the same bytes, or the file that was missing
    own_test = None
    if data.test is not None:
        own_test = DIGITS if source == DIGITS else str(Path(source) / "test")
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
            "source": source,
            "test": own_test,  # where the data's own test part is; None: it brought none
            "cache": str(options.cache),
            "fingerprint": data.fingerprint,
            "split_fingerprint": data.split_fingerprint,
            "images": len(data.table.images),
            "counts": data.split.counts(),
            "classes": list(data.table.classes),
            "vocabulary": data.vocabulary(options.inputs, data.split.trained),
            "inputs": list(options.inputs),
            "image_size": options.image_size,
            "age_groups": options.age_groups,
        },
    }
    files.write_json(run / "run.json", record)


@contextmanager
def entered(options: Options, space: Space, data: LabelledData) -> Iterator[None]:
    """Holds the run's lock, with its record and split written: a new run, or one that goes on as what it is.

    Raises:
        UserError: as `lock`, `stored` and `check_same` do.
    """
    with lock(options.run):
        earlier = to_go_on_with(options.run)
        if earlier is not None:
            check_same(earlier, options, space, data)
        write(options, space, data, earlier)
        yield


def add_session(options: Options, slots: int) -> list[str]:
    """Notes in run.json what is about to train: command, code, versions, hardware, and how many trials at once.

    Returns: a warning, if the code or PyTorch are not those of the session before: trials of both may not compare.
    """
    record = stored(options.run)
    assert record is not None
    session = {
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": options.command,
        "asked": asked(options),
        "slots": slots,
        "code": code_fingerprint(),
        "versions": {
            **versions(),
            **{name: version(name) for name in ("ray", "optuna")},
            "c++": compiler_version(),
        },
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
    files.write_json(options.run / "run.json", {**record, "sessions": [*record["sessions"], session]})
    return warnings
