import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import QUICK, Bench, Products, Steps, done, epoch_flops, formats, peak, show, text
from benchmarks.train_throughput import random_examples
from trainable.config import TrialConfig

TINY = TrialConfig(depth=4, widths=(4, 4, 4, 4), image_size=28, head_width=8, head_dropout=0.0, batch_size=8)


@pytest.fixture
def bench() -> Bench:
    return Bench("cpu", QUICK, Products.now(), latest=time.monotonic() + 60)


def test_steps_train(bench: Bench) -> None:
    steps = Steps(TINY, random_examples(40, 28), bench.device())
    before = {name: value.clone() for name, value in steps.model.state_dict().items()}
    steps.run(5)
    assert steps.taken == 5 and 0 < steps.loss_sum.item() / 5 < 10
    changed = [name for name, value in steps.model.state_dict().items() if not torch.equal(value, before[name])]
    assert "blocks.0.conv.weight" in changed and "output.bias" in changed


def test_a_rate_is_of_whole_steps(bench: Bench) -> None:
    steps = Steps(TINY, random_examples(40, 28), bench.device())
    assert steps.rate(0.05) > 0 and steps.taken % 10 == 0


def test_an_epochs_operations_count_its_validation() -> None:
    # With two inputs of five values and five classes: 394,128 of tests/benchmarks/test_flops.py, and 2 x 8 x 10 more.
    forward, first = 394_128 + 160, 2 * 9 * 3 * 4 * 26 * 26
    assert epoch_flops(TINY, random_examples(40, 28)) == 28 * (3 * forward - first) + 6 * forward


def test_a_part_that_fails_is_recorded(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    def part() -> list[dict[str, object]]:
        raise RuntimeError("no such card")

    assert "no such card" in done("memory", part, bench.latest)["error"]
    assert "memory: RuntimeError: no such card" in capsys.readouterr().out
    assert "left out" in done("memory", lambda: [{"n": 1}], latest=0.0)["error"]
    assert done("memory", lambda: [{"n": 1}], bench.latest)["rows"] == [{"n": 1}]


def test_tables_align(capsys: pytest.CaptureFixture[str]) -> None:
    show("peak", [{"format": "tf32", "rates": [1.0, 2.5]}, {"format": "bfloat16", "rates": None}])
    assert capsys.readouterr().out.splitlines() == [
        "",
        "peak",
        "    format   rates",
        "      tf32  1, 2.5",
        "  bfloat16       -",
    ]
    assert [text(value) for value in (1234.5, 0.12345, "a", 3)] == ["1234", "0.1235", "a", "3"]


def test_all_of_it_can_be_tried_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    parts = result["details"]["parts"]
    assert set(parts) == {"peak", "throughput", "formats", "profile", "packing", "compile"}
    assert all(part["rows"] for part in parts.values()) and result["figures"] == []


def test_the_quick_parts_measure_something(bench: Bench) -> None:
    assert peak(bench)[0]["tflops"] > 0
    assert [row["format"] for row in formats(bench)] == ["float32", "bfloat16"]
