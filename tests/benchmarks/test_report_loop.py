import dataclasses

import numpy as np
import torch

from benchmarks.report_loop import report_epochs
from benchmarks.train_throughput import random_examples
from trainable.config import TrialConfig
from trainable.device import choose
from trainable.fit import fit

CONFIG = TrialConfig(depth=4, widths=(4, 8, 8, 8), image_size=28, head_dropout=0.0, batch_size=16, epochs=10)


def test_the_loop_learns_to_tell_bright_from_dark() -> None:
    examples = random_examples(120, CONFIG.image_size)
    bright = (examples.pixels // 4) + (40 * examples.labels).astype(np.uint8)[:, None, None, None]
    epochs = list(report_epochs(CONFIG, dataclasses.replace(examples, pixels=bright), torch.device("cpu")))
    assert len(epochs) == 10
    assert epochs[-1].train_loss < 0.75 * epochs[0].train_loss
    assert epochs[-1].valid_accuracy > 0.5  # of five classes


def test_ours_trains_on_the_same_examples() -> None:
    (epoch,) = fit(dataclasses.replace(CONFIG, epochs=1), random_examples(60, CONFIG.image_size), choose("cpu"))
    assert epoch.valid_logits.shape == (9, 5)
