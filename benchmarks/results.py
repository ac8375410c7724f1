"""Writes benchmarks/RESULTS.md from what the benchmarks wrote by --out: no figure in it is typed by hand.

python -m benchmarks.results DIR
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainable.files import write_text

RESULTS = Path(__file__).with_name("RESULTS.md")
Result = Mapping[str, Any]  # as `figures.result_of` makes it

HEAD = """# Results

The last run of each benchmark, as `python -m benchmarks.results` wrote it from their JSON. Ours and the peer ran in
turn on one machine, but for what has halves, each of which ran by itself (see the runs); a ratio is the median over n
pairs where there are pairs. README.md in this folder says what each measures, and against what. What `to_accuracy`
found is a table in [docs/report.md](../docs/report.md#what-is-said-to-learn-faster).
"""


def load(folder: Path) -> list[Result]:
    """What benchmarks wrote into a folder, in the order in which they ran. Ends the command where there is nothing."""
    results = [
        result for path in sorted(folder.glob("*.json")) if "figures" in (result := json.loads(path.read_text()))
    ]
    if not results:
        sys.exit(f"{folder} holds no JSON that a benchmark wrote by --out.")
    return sorted(results, key=lambda result: result["machine"]["date"])


def markdown(results: Sequence[Result]) -> str:
    """RESULTS.md."""
    ran = [run for result in results for run in runs_of(result)]
    machines = list(dict.fromkeys(machine_text(machine) for *_, machine in ran))
    figures = [
        [result["benchmark"], row["what"], *map(number, (row["peer"], row["ours"], row["ratio"])), str(row["n"])]
        + [row["goal"] or "", {True: "yes", False: "no", None: ""}[row["met"]]]
        for result in results
        for row in result["figures"]
    ]
    runs = [
        [command, began, minutes, number(machine["load_average"]), machine["commit"], machine["code"][:8]]
        + [str(1 + machines.index(machine_text(machine)))]
        for command, began, minutes, machine in ran
    ]
    return "\n".join(
        [
            HEAD,
            *table(["benchmark", "figure", "peer", "ours", "ratio", "n", "goal", "reached"], figures),
            "\n## Runs\n\nThe load is the average of the minute before; a + after the commit: with changes.\n",
            *table(["command", "began", "minutes", "load", "commit", "code", "machine"], runs),
            "\n## Machines\n",
            *(f"{place}. {text}" for place, text in enumerate(machines, start=1)),
            "",
        ]
    )


def runs_of(result: Result) -> list[tuple[str, str, str, Mapping[str, Any]]]:
    """What was run, when, for how many minutes and where: a benchmark, and each half that was run by itself before."""
    ran = [(f"`{result['command']}`", result["machine"]["date"], str(result["minutes"]), result["machine"])]
    details = result["details"]
    for half in details.get("halves", ()) if isinstance(details, Mapping) else ():
        machine, minutes = half["machine"], f"{half['settings']['minutes']:g}"
        ran.append((f"its half of {half['side']}, seed {half['seed']}", f"until {machine['date']}", minutes, machine))
    return ran


def machine_text(machine: Mapping[str, Any]) -> str:
    """The machine and the versions in a sentence."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    gpu = "no GPU" if machine["gpu"] == "none" else machine["gpu"]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, bf16 by {machine['bf16']}, {machine['memory_gb']:g} GB, {gpu}, "
        f"{machine['system']}; {versions}"
    )


def number(value: float | None) -> str:
    """Three digits, or whole above a hundred; nothing of nothing."""
    if value is None:
        return ""
    return f"{value:,.0f}" if 100 <= abs(value) < float("inf") else f"{value:.3g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR", help="with the JSON of the benchmarks")
    arguments = parser.parse_args()
    results = load(arguments.folder)
    write_text(RESULTS, markdown(results))
    print(f"{RESULTS}: {sum(len(result['figures']) for result in results)} figures of {len(results)} benchmarks")


if __name__ == "__main__":
    main()
