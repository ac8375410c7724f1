"""The sections on what was learnt: which parameters mattered, what the best trial and the ensemble say of images."""

from collections.abc import Sequence

from results.blocks import Block, Figures, Grid, Pictures, Section, Text, cell, numbers, percent, signed
from results.facts import Facts
from results.predictions import Predictions
from results.weights import METHODS
from trainable.table import count

LARGE = 12  # classes: with more a confusion matrix is as wide as the page


def effects(facts: Facts) -> Section | None:
    """What each parameter did; None where nothing can be said of that."""
    found = facts.effects
    if found is None:
        return None
    how = "fitted together by least squares" if found.together else "each fitted alone, as there are few trials"
    shape = "with a square for a number, so that its best may be in the middle" if found.curved else "numbers as lines"
    fidelity = (
        f"Accuracies are the best of the first {count(found.epoch, 'epoch')}, which all {found.trials} trials have: so "
        "none looks good because it was let train longer."
        if found.epoch < facts.epochs
        else f"Over {found.trials} trials."
    )
    said = (
        f"{fidelity} Effects are {how}, {shape}. A number's is from a low value to a high one: a tenth of the trials "
        "were below, a tenth above. The intervals hold together at 95 %, as far as the model does and had the trials "
        "been drawn at random. A sampler that learns chose what to try by what it had seen: what is worth having, "
        "confirm with fresh seeds."
    )
    if found.too_many:
        said += f" Too many values for so few trials, so that nothing can be told: {', '.join(found.too_many)}."
    if found.left_out:
        said += f" Not compared, as not all trials have them or they did not vary: {', '.join(found.left_out)}."
    rows = [
        [effect.parameter, effect.change, signed(effect.accuracy), "yes" if effect.clear else "no"]
        for effect in found.effects
    ]
    table = Grid(["parameter", "change", "points of accuracy", "beyond the noise"], rows, frozenset({2}))
    blocks: list[Block] = [Text(said, aside=True)]
    if rows:
        blocks.append(
            Figures({"effects": "Points of accuracy; coloured: beyond the noise."}, tables={"effects": table})
        )
    if found.importances:
        shares = [[one.parameter, f"{numbers(one.share, '.0f')} %"] for one in found.importances]
        said = (
            f"How much each parameter decides whether a trial is among the best {found.trials // 10} (PED-ANOVA, "
            "Watanabe et al. 2023), with 95 % intervals of trials drawn again. Where nothing matters "
            "the shares are chance's."
        )
        grid = Grid(["parameter", "share"], shares, frozenset({1}))
        blocks.append(Figures({"importances": said}, tables={"importances": grid}))
    blocks += [
        Figures(
            {f"slice{number}": name for number, name in enumerate(found.parameters)},
            f"Each trial's accuracy, best of the first {count(found.epoch, 'epoch')}, against each parameter:",
        ),
        Figures({"parallel": "A line a trial, from its parameters to its accuracy; point at one to see it alone."}),
    ]
    return Section("What mattered", tuple(blocks))


def predictions(number: int, found: Predictions) -> Section:
    """What a model said of images. The figures' names end in `number`."""
    said = (
        f"Accuracy {percent(found.accuracy)} on {found.images} {found.part} (95 % interval). Expected calibration "
        f"error {percent(found.calibration_error)}, "
    )
    if found.temperature is None:
        said += "of its outputs as they are, without a temperature. It was chosen on these images, which flatters it."
    else:
        said += (
            f"after its temperature of {found.temperature:.2f}. That, and its weights where they are fitted, were "
            "fitted on these very images; the scores below are those on images that they were not fitted on."
        )
    confusion = [[name, *map(str, row)] for name, row in zip(found.classes, found.confusion, strict=True)]
    recalls = [
        [name, "-" if recall is None else percent(recall)]
        for name, recall in zip(found.classes, found.recalls, strict=True)
    ]
    bins = [[f"{100 * one.confidence:.0f} %", percent(one.accuracy), str(one.images)] for one in found.calibration]
    wide = len(found.classes) > LARGE
    table = Grid(["is, said", *found.classes], confusion, frozenset(range(1, len(confusion) + 1)))
    matrix = Figures(
        {f"confusion{number}": "Images by what they are and what was said; shaded by the share of a class."},
        tables={f"confusion{number}": table},
    )
    others = Figures(
        {
            f"recalls{number}": "Of each class the share that was found, 95 % intervals.",
            f"calibration{number}": "How often it was right where it was so sure, 95 % intervals; on the dashed line "
            "confidence is earned.",
        },
        tables={
            f"recalls{number}": Grid(["class", "recall"], recalls, frozenset({1})),
            f"calibration{number}": Grid(["confidence", "accuracy", "images"], bins, frozenset({0, 1, 2})),
        },
    )
    together = Figures({**matrix.captions, **others.captions}, tables={**matrix.tables, **others.tables})
    title = found.model[0].upper() + found.model[1:] + (", the best single model" if number == 0 else "")
    return Section(title, (Text(said, aside=True), *((matrix, others) if wide else (together,))))


def ensemble(facts: Facts) -> Section | None:
    """The methods' scores, the choice and the members; None where there is no ensemble."""
    manifest = facts.ensemble
    if manifest is None:
        return None
    objective = manifest["objective"]
    members = [
        [member["trial"], _run_name(facts, member["run"]), f"{member[objective]:.4f}", f"{member['weight']:.3f}"]
        for member in manifest["members"]
    ]
    scores = [
        [
            f"{name}{' (chosen)' if name == manifest['method'] else ''}",
            f"{score['log_loss']['value']:.3f} [{score['log_loss']['low']:.3f}, {score['log_loss']['high']:.3f}]",
            cell(score["accuracy"]),
            cell(score["calibration_error"]),
            "" if name == "single" else cell(score["accuracy_gain"], "+"),
        ]
        for name, score in ((row.name, manifest["scores"][row.name]) for row in METHODS)
    ]
    said = f"{manifest['method']}: {manifest['reason']}"
    how = (
        f"On {manifest['holdout_images']} images, each scored by weights that were not fitted on it (95 % intervals). "
        f"single: the first member alone, the best of {manifest['trials_compared']} on validation; gains are paired."
    )
    rows = "; ".join(f"{what.replace('_', ' ')}: {which}" for what, which in manifest["rows"].items())
    return Section(
        "How the ensemble was chosen",
        (
            Text(said),
            Grid(
                ["method", "log loss", "accuracy, %", "calibration, %", "gain, points"], scores, frozenset({1, 2, 3, 4})
            ),
            Text(how, aside=True),
            Grid(["trial", "run", objective, "weight"], members, frozenset({2, 3})),
            Text(f"Which images each step saw: {rows}.", aside=True),
        ),
    )


def _run_name(facts: Facts, path: str) -> str:
    """A member's run, whose path is relative to this one's."""
    if path == ".":
        return facts.name
    return path if path.startswith("confirm/") else path.rsplit("/", 1)[-1]


def mistakes(predictions: Sequence[Predictions]) -> Section | None:
    """What the last of the models was most sure of and wrong about; None where there is none."""
    if not predictions or not predictions[-1].mistakes:
        return None
    last = predictions[-1]
    said = f"What {last.model} was most sure of and wrong about, of {last.images} {last.part}."
    return Section("The most confident mistakes", (Text(said, aside=True), Pictures(last.mistakes)))
