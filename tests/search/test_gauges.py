"""The gauges of a running search, as Ray exports them for Prometheus, and the board that shows them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

BOARD = Path(__file__).parents[2] / "docs" / "grafana.json"

# Joins a Ray, sets the gauges once, and prints what its node exports as soon as that has all of them.
DRIVER = """
import re, sys, time, urllib.request
from pathlib import Path
import ray
from search.gauges import Gauges
from tests.search.follow import Search

ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
search = Search(Path(sys.argv[2]), objective="valid_accuracy")
gauges = Gauges(search.standing, "mine")
search.epoch(search.start(), 1, 0.25)
gauges.on_step_end(0, [])
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    pages = [urllib.request.urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics").read()
             for node in ray.nodes()]
    lines = [line for page in pages for line in page.decode().splitlines() if line.startswith("ray_convsearch_")]
    found = [line for line in lines if 'run="mine"' in line]  # those of a search before stay a while
    if len({line.split("{")[0] for line in found}) == 7:
        print("\\n".join(found))
        break
    time.sleep(1)
"""


def test_prometheus_finds_what_the_search_is_like(cluster: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, cluster, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": "token"},
    )
    values: dict[tuple[str, ...], float] = {}
    for line in done.stdout.splitlines():
        name, labels, value = re.fullmatch(r"ray_convsearch_(\w+)\{(.*)\} (\S+)", line).groups()  # type: ignore[union-attr]
        tags = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        assert tags["run"] == "mine"
        values[name, *(tags[key] for key in ("trial", "state", "objective") if key in tags)] = float(value)
    assert values["best", "valid_accuracy"] == values["valid_accuracy", "0000"] == 0.75, done.stderr
    assert values["epoch", "0000"] == 1
    states = {state: values["trials", state] for state in ("running", "waiting", "finished", "stopped early", "failed")}
    assert states == {"running": 1, "waiting": 3, "finished": 0, "stopped early": 0, "failed": 0}
    assert 0 < values["epochs_per_second",] <= 1
    assert set(name for name, *_ in values) == board_names()


def board_names() -> set[str]:
    """Of the gauges that the board asks for."""
    return set(re.findall(r"ray_convsearch_(\w+)", BOARD.read_text()))


def test_every_panel_of_the_board_asks_for_a_gauge_of_the_chosen_runs() -> None:
    for panel in json.loads(BOARD.read_text())["panels"]:
        assert panel["targets"]
        for target in panel["targets"]:
            asked = re.findall(r"ray_convsearch_\w+(\{[^}]*\})?", target["expr"])
            assert asked and set(asked) == {'{run=~"$run"}'}
