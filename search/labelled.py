"""The labelled data of a run, once more: as they were, or not at all."""

from collections.abc import Collection, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from trainable.dataset import DIGITS, LabelledData, load_labelled, parse_age_groups, parse_fractions
from trainable.errors import UserError


def labelled_again(
    run: Path, record: Mapping[str, Any], columns: Collection[str], size: int, cache: Path, purpose: str
) -> LabelledData:
    """All labelled rows of a run at an image size, divided as they were.

    Args:
        run: its folder.
        record: its run.json.
        columns: of metadata that are needed.
        purpose: what they are needed for, for a message.
    Raises:
        UserError: where they are gone, or are not those that the run was made with.
    """
    said = record["arguments"]
    if said["data"] != DIGITS and not Path(said["data"]).exists():
        tell = f"python -m search.run --resume {quote(run.name)} --out {quote(str(run.parent))} --data PLACE"
        raise UserError(
            f"{purpose}: {run} was made with the data at {said['data']}, where they no longer are; say where they are: "
            f"{tell}"
        )
    data = load_labelled(
        said["data"],
        inputs=sorted(columns),
        target=said["target"],
        age_groups=parse_age_groups(said["age_groups"]),
        image_size=size,
        fractions=parse_fractions(said["split"]),
        folds=said["folds"],
        seed=said["seed"],
        cache=cache,
        progress=True,
        split_file=run / "splits.csv",
    )
    if data.fingerprint != record["data"]["fingerprint"]:
        raise UserError(f"{purpose}: the data at {said['data']} are not those that {run} was made with.")
    return data
