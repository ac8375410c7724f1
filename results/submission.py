"""From members and their weights to a submission's files, as bytes. N test images, C classes."""

import csv
import io
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from results.members import Member, Run
from results.scores import Floats, probabilities
from trainable.checkpoint import Best, load_best
from trainable.dataset import DIGITS, Table, decode, load_test
from trainable.digits import digits_folder
from trainable.errors import UserError
from trainable.evaluate import predict

SUBMISSION, PROBABILITIES = "submission.csv", "probabilities.npz"
HEADER = ("Id", "Category")


@dataclass(frozen=True)
class Submission:
    """A submission before it is written."""

    files: Mapping[str, bytes]  # by name
    test: Mapping[str, Any]  # the manifest's part on the test data
    warnings: tuple[str, ...]  # a line each


def own_test(run: Run, cache: Path) -> str | None:
    """The test part that the run's data brought along, as --test would name it; None where it brought none.

    The run's record decides: a folder called test may as well be a class.
    Raises: UserError where the record does not say.
    """
    test = run.data.get("test", False)
    if test is not None and not isinstance(test, str):
        path = run.folder / "run.json"
        raise UserError(f"{path} does not say whether the data has a test part of its own; name the images by --test.")
    return str(digits_folder(cache) / "testdata.csv") if test == DIGITS else test


def make_submission(
    members: Sequence[Member],
    weights: Sequence[float],
    temperature: float,
    test: str,
    *,
    own: bool = False,
    sample: Path | None,
    cache: Path,
    progress: bool,
) -> Submission:
    """Predicts the test table. Preprocessing comes from each member's checkpoint; nothing else touches an image.

    Args:
        members: M of them; one without weight is not computed.
        weights: (M,), summing to 1.
        temperature: divides the pooled logits.
        test: a CSV or a folder, as in `dataset.load_test`.
        own: whether it is what `own_test` gave, which finds it again wherever the cache is then.
        sample: a sample submission whose ids must be those of the test table, in order.
        cache: the folder of decoded images.
        progress: whether to show bars on stderr where that is a terminal.
    Raises:
        UserError: if the test table, the sample or a checkpoint is unusable.
    """
    used = predicting(members, weights)
    table, warnings = read_test(used, test, sample, cache, progress)
    pixels = {
        size: decode(table, size, cache, progress) for size in {best.preprocessing.image_size for best, _ in used}
    }
    logits: Floats = np.zeros((len(table.images), len(used[0][0].preprocessing.classes)))
    hidden = not (progress and sys.stderr.isatty())
    console = Console(stderr=True)
    for best, weight in track(used, "Predicting", console=console, transient=True, disable=hidden):
        logits += weight * predict(best, pixels[best.preprocessing.image_size].open(), table.columns)
    classes = used[0][0].preprocessing.classes
    shares = probabilities(logits / temperature).astype(np.float32)
    ids, names = np.array(table.images), np.array(classes)
    return Submission(
        files={
            SUBMISSION: submission_bytes(table.images, [classes[label] for label in logits.argmax(axis=1)]),
            PROBABILITIES: npz_bytes({"probabilities": shares, "ids": ids, "classes": names}),
        },
        test={
            "own": own,
            "source": None if own else test,
            "path": None if own else str(Path(test).resolve()),
            "images": len(table.images),
            "fingerprint": _fingerprint(table, next(iter(pixels.values())).content),
        },
        warnings=warnings,
    )


def predicting(members: Sequence[Member], weights: Sequence[float]) -> list[tuple[Best, float]]:
    """The networks that predict, each with its share: a member's weight in equal parts."""
    return [
        (load_best(path), weight / len(member.predicting))
        for member, weight in zip(members, weights, strict=True)
        if weight > 0
        for path in member.predicting
    ]


def read_test(
    used: Sequence[tuple[Best, float]], test: str, sample: Path | None, cache: Path, progress: bool
) -> tuple[Table, tuple[str, ...]]:
    """The test table as the networks of `predicting` need it, and the warnings, a line each.

    Args and errors: as for `make_submission`.
    """
    vocabulary = {name: values for best, _ in used for name, values in best.preprocessing.vocabulary.items()}
    size = used[0][0].preprocessing.image_size
    table, warnings = load_test(test, vocabulary, image_size=size, cache=cache, progress=progress)
    if sample is not None:
        check_sample(sample, table.images)
    return table, warnings


def check_sample(path: Path, ids: Sequence[str]) -> None:
    """Raises UserError, with the first difference, unless the sample submission has these ids in this order."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if line]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"--sample-submission: {path} cannot be read as a CSV file ({error}).") from None
    header = tuple(lines[0]) if lines else ()
    if header != HEADER:
        raise UserError(f"--sample-submission: {path} has the header '{','.join(header)}' instead of 'Id,Category'.")
    sample = [line[0] for line in lines[1:]]
    for row, (theirs, ours) in enumerate(zip(sample, ids, strict=False), start=2):
        if theirs != ours:
            order = "; the ids are the same in another order" if sorted(sample) == sorted(ids) else ""
            raise UserError(
                f"--sample-submission: {path}, row {row} is '{theirs}' but the test table has '{ours}'{order}."
            )
    if len(sample) != len(ids):
        raise UserError(f"--sample-submission: {path} has {len(sample)} rows but the test table has {len(ids)}.")


def submission_bytes(ids: Sequence[str], categories: Sequence[str]) -> bytes:
    """The CSV Id,Category; both are (N,)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(zip(ids, categories, strict=True))
    return text.getvalue().encode()


def npz_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """An uncompressed .npz: the same arrays always give the same bytes, which np.savez's time stamps prevent."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())
    return buffer.getvalue()


def _fingerprint(table: Table, content: str) -> str:
    """Of the test images' content, order and ids, and of the columns that are read."""
    parts = [content, table.images, sorted(table.columns.items())]
    return blake2b(json.dumps(parts).encode(), digest_size=16).hexdigest()
