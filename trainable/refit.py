"""A chosen configuration trained again on all labelled rows, for as many epochs as were best under validation.

Nothing is left to judge such a network by: it is taken to be worth what its trial was, which saw fewer images.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainable import files
from trainable.checkpoint import checkpoint_names, file_hash, load_latest, save_best, save_latest
from trainable.config import TrialConfig
from trainable.dataset import LabelledData
from trainable.device import Compile, Device, Precision
from trainable.examples import Examples, examples_of
from trainable.fit import Row, fit
from trainable.metrics import metrics_csv
from trainable.untrusted import parse_json


@dataclass(frozen=True)
class Refit:
    """One network to be trained on everything. Its files are those of a trial, without logits."""

    folder: Path
    config: TrialConfig
    epochs: int  # of the configuration's, whose schedule stays
    precision: Precision = "auto"  # as in `device.choose`
    compile: Compile = "auto"  # the same

    @property
    def checkpoint(self) -> Path:
        """Where the network will be."""
        return self.folder / checkpoint_names(1)[0]

    def epochs_done(self) -> int:
        """How many epochs its metrics tell of."""
        try:
            return max(0, (self.folder / "metrics.csv").read_text().count("\n") - 1)
        except OSError:
            return 0

    def done(self, data: LabelledData) -> bool:
        """Whether it was trained to its end, on these data, and is what it was then."""
        try:
            record = parse_json((self.folder / "refit.json").read_text())
            return bool(record == self._record(data))
        except (OSError, ValueError):
            return False

    def _record(self, data: LabelledData) -> dict[str, Any]:
        return {
            "config": self.config.to_dict(),
            "epochs": self.epochs,
            "precision": self.precision,
            "data": data.fingerprint,
            "checkpoint_sha256": file_hash(self.checkpoint),
        }

    def train(self, data: LabelledData, device: Device) -> Iterator[Row]:
        """Trains the epochs that are left and yields their metrics. Raises as `fit` does.

        The last epoch leaves no state to resume from: a kill before all is written costs this epoch again, and the
        checkpoint that refit.json vouches for is always one that the same call has written.
        """
        files.make_folder(self.folder)
        examples = examples_of(data, self.config, data.split.everything)
        latest = self._latest(examples)
        rows: list[Row] = list(latest["rows"]) if latest is not None else []
        for epoch in fit(self.config, examples, device, latest, self.epochs):
            rows.append(epoch.row)
            files.write_text(self.folder / "metrics.csv", metrics_csv(rows))
            if epoch.improved:  # the last
                save_best(self.checkpoint, epoch.networks()[0])
            else:
                save_latest(self.folder / "latest.pt", epoch.latest())
            yield epoch.row
        files.write_json(self.folder / "refit.json", self._record(data))
        files.remove(self.folder / "latest.pt")

    def _latest(self, examples: Examples) -> dict[str, Any] | None:
        """The state to resume from; None where there is none of this network, or only one beyond its end."""
        latest = load_latest(self.folder / "latest.pt")
        same = {"config": self.config.to_dict(), "preprocessing": examples.preprocessing.to_json()}
        if latest is None or any(latest.get(name) != value for name, value in same.items()):
            return None
        return latest if len(latest["rows"]) < self.epochs else None
