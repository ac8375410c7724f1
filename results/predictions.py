"""What a model said of each of N labelled images that it did not learn from, and where it was wrong. C classes."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results.manifest import MANIFEST, Manifest
from results.members import load_member, load_run
from results.scores import (
    Estimate,
    accuracy_estimate,
    calibration_estimate,
    image_gaps,
    image_hits,
    in_bins,
    pooled,
    probabilities,
)
from trainable.errors import UserError, reason
from trainable.logits import NAME
from trainable.paths import trial_folder
from trainable.untrusted import read_arrays

MISTAKES = 24  # shown of each model


@dataclass(frozen=True)
class Mistake:
    """An image that a model was wrong about."""

    image: str  # its id
    label: str
    said: str
    confidence: float  # the probability of what it said


@dataclass(frozen=True)
class Bin:
    """The images of which a model was about as sure."""

    confidence: float  # on average
    accuracy: Estimate
    images: int


@dataclass(frozen=True)
class Predictions:
    """A model on the images of a part."""

    model: str  # 'trial 0007', 'the ensemble'
    part: str  # the images', in words
    images: int  # N
    classes: tuple[str, ...]
    accuracy: Estimate
    confusion: tuple[tuple[int, ...], ...]  # (C, C) images by label, then by what was said
    recalls: tuple[Estimate | None, ...]  # of each class; None where it has no image
    calibration: tuple[Bin, ...]
    calibration_error: Estimate
    temperature: float | None  # that the logits were divided by, fitted on these images; None: as they are
    mistakes: tuple[Mistake, ...]  # the most confident first


def of_trial(run: Path, trial: str, classes: Sequence[str], folds: int) -> Predictions | None:
    """A trial's best network on the images that it was ranked on; None where its logits are not there (yet).

    Raises: UserError where they are damaged, not finite, or those of other images.
    """
    path = trial_folder(run, trial) / NAME
    try:
        logits, images = read_arrays(path, "valid", "valid_ids")
        finite, ids = bool(np.isfinite(logits).all()), [str(image) for image in images.tolist()]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:  # TypeError: of another kind
        raise UserError(f"{path} is damaged ({error}).") from None
    labels = _labels(run / "splits.csv", classes)
    if any(image not in labels for image in ids) or logits.shape != (len(ids), len(classes)):
        raise UserError(f"{path} is of other images or classes than {run / 'splits.csv'}.")
    if not finite:
        raise UserError(f"{path} has validation logits that are not finite.")
    part = "labelled images, each by the network that did not learn from it" if folds else "validation images"
    return _predictions(f"trial {trial}", part, ids, np.array([labels[image] for image in ids]), logits, classes, None)


def of_ensemble(home: Path, manifest: Manifest) -> Predictions:
    """An ensemble on the images that its weights were fitted on.

    Args:
        home: the folder that the manifest's paths are relative to.
    Raises: UserError where a member is gone or damaged, or of other images or classes than the manifest's.
    """
    runs = {path["path"]: load_run(home / path["path"]) for path in manifest["runs"]}
    first, classes = next(iter(runs.values())), manifest["data"]["classes"]
    for run in runs.values():
        if (run.holdout_ids, run.data["classes"]) != (first.holdout_ids, classes):
            raise UserError(f"{home / MANIFEST} is of other images or classes than {run.folder}.")
    members = [load_member(runs[one["run"]], one["trial"]) for one in manifest["members"]]
    weights = np.array([one["weight"] for one in manifest["members"]])
    logits = pooled(np.stack([member.logits for member in members]), weights) / manifest["temperature"]
    part = "labelled images, each by networks that did not learn from it" if manifest["folds"] else "holdout images"
    return _predictions(
        "the ensemble", part, first.holdout_ids, first.holdout_labels, logits, classes, manifest["temperature"]
    )


def _labels(path: Path, classes: Sequence[str]) -> Mapping[str, int]:
    """The label of each image of a splits.csv."""
    numbers = {name: number for number, name in enumerate(classes)}
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return {row["Image"]: numbers[row["Label"]] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise UserError(f"{path} is missing or damaged ({reason(error)}).") from None


def _predictions(
    model: str,
    part: str,
    ids: Sequence[str],
    labels: NDArray[np.int64],
    logits: NDArray[np.floating[Any]],
    classes: Sequence[str],
    temperature: float | None,
) -> Predictions:
    shares = probabilities(logits)
    said, confidence = shares.argmax(1), shares.max(1)
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (labels, said), 1)
    hits, gaps = image_hits(logits, labels), image_gaps(logits, labels)
    wrong = np.flatnonzero(said != labels)
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")][:MISTAKES]
    return Predictions(
        model=model,
        part=part,
        images=len(ids),
        classes=tuple(classes),
        accuracy=accuracy_estimate(hits),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        recalls=tuple(
            accuracy_estimate(hits[labels == label]) if (labels == label).any() else None
            for label in range(len(classes))
        ),
        calibration=_bins(confidence, hits),
        temperature=temperature,
        calibration_error=calibration_estimate(gaps, np.random.default_rng(0)),
        mistakes=tuple(
            Mistake(ids[row], classes[int(labels[row])], classes[int(said[row])], float(confidence[row]))
            for row in wrong.tolist()
        ),
    )


def _bins(confidence: NDArray[np.float64], hits: NDArray[np.float64]) -> tuple[Bin, ...]:
    """Bins of equal width, as the calibration error has them, of which the empty ones are left out."""
    return tuple(
        Bin(float(confidence[inside].mean()), accuracy_estimate(hits[inside]), int(inside.sum()))
        for inside in in_bins(confidence).T
        if inside.any()
    )
