import json
import re
from pathlib import Path

import pytest

from benchmarks.results import RESULTS, load, markdown, number

MACHINE = {
    "cpu": "Some CPU",
    "cores": 2,
    "bf16": "avx512",
    "memory_gb": 16.0,
    "gpu": "none",
    "system": "Linux",
    "versions": {"python": "3.11.1", "torch": "2.9.0"},
    "commit": "0123456+",
    "code": "abcdef0123456789",
    "date": "2026-01-02 03:04",
    "load_average": 0.25,
}
FIGURE = {"what": "images/s", "ours": 1234.5, "peer": 246.9, "ratio": 5.0, "n": 3, "goal": "ratio >= 4", "met": True}
ALONE = {"what": "MB", "ours": 0.1234, "peer": None, "ratio": None, "n": 1, "goal": None, "met": None}


def result(name: str, figure: dict[str, object], **machine: object) -> dict[str, object]:
    command = f"python -m benchmarks.{name}"
    of = {"benchmark": name, "command": command, "minutes": 4, "figures": [figure], "details": {}}
    return {**of, "machine": {**MACHINE, **machine}}


def test_every_figure_has_a_line_with_its_goal() -> None:
    text = markdown([result("a", FIGURE), result("b", ALONE, cpu="Another")])
    assert "| a | images/s | 247 | 1,234 | 5 | 3 | ratio >= 4 | yes |" in text
    assert "| b | MB |  | 0.123 |  | 1 |  |  |" in text
    assert "| `python -m benchmarks.b` | 2026-01-02 03:04 | 4 | 0.25 | 0123456+ | abcdef01 | 2 |" in text
    assert "1. Some CPU, 2 cores, bf16 by avx512, 16 GB, no GPU, Linux; python 3.11.1, torch 2.9.0" in text


def test_halves_that_were_run_by_themselves_have_their_own_lines() -> None:
    whole = result("a", FIGURE)
    machine = {**MACHINE, "date": "2026-01-01 00:00", "commit": "89abcde"}
    whole["details"] = {"halves": [{"side": "ours", "seed": 1, "settings": {"minutes": 30.0}, "machine": machine}]}
    text = markdown([whole])
    assert "| its half of ours, seed 1 | until 2026-01-01 00:00 | 30 | 0.25 | 89abcde | abcdef01 | 1 |" in text


def test_results_are_those_of_benchmarks_in_the_order_of_their_runs(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(result("late", FIGURE, date="2026-01-03 00:00")))
    (tmp_path / "b.json").write_text(json.dumps(result("early", FIGURE)))
    (tmp_path / "c.json").write_text('{"epochs": []}')
    assert [found["benchmark"] for found in load(tmp_path)] == ["early", "late"]


def test_a_folder_without_results_is_said(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no JSON that a benchmark wrote"):
        load(tmp_path)


def test_numbers_have_three_digits_or_none_behind_the_point() -> None:
    assert [number(value) for value in (None, 0.0512, 5.466, 99.96, 1234.5, float("inf"))] == [
        "",
        "0.0512",
        "5.47",
        "100",
        "1,234",
        "inf",
    ]


def test_what_is_in_the_repository_is_what_its_json_says_and_readme_quotes_its_ratios() -> None:
    results = load(RESULTS.with_name("measured"))
    assert RESULTS.read_text() == markdown(results)
    ratios = {f"{row['ratio']:.2f}" for result in results for row in result["figures"] if row["ratio"] is not None}
    quoted = re.findall(r"(\d+\.\d+)\s+times", RESULTS.parents[1].joinpath("README.md").read_text())
    assert len(quoted) == 3 and set(quoted) <= ratios
