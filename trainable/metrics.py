"""A trial's metrics as text: metrics.csv, and a line of its log."""

import csv
import io
import time

from trainable.fit import Row

METRICS = ("epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "lr", "seconds")


def metrics_csv(rows: list[Row]) -> str:
    """metrics.csv: a row an epoch; valid_objective_loss where the trial does not train on plain cross-entropy; nothing
    of validation where there is none."""
    names = [name for name in METRICS if name in rows[0]] + [name for name in rows[0] if name not in METRICS]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def line(trial: str, row: Row, epochs: int) -> str:
    """An epoch in one line of the trial's log."""
    sides = [
        f"{side} loss {row[f'{side}_loss']:.4f} accuracy {row[f'{side}_accuracy']:.1%}"
        for side in ("train", "valid")
        if f"{side}_loss" in row
    ]
    return (
        f"{time.strftime('%H:%M:%S')} trial {trial} epoch {row['epoch']:2.0f}/{epochs}"
        f"  {'  '.join(sides)}  lr {row['lr']:.2e}  {row['seconds']:.1f} s"
    )
