"""A search on two nodes that have no folder in common, beside one on a single node with as many slots.

    python -m benchmarks.two_nodes --data faces/data.csv

`python -m search.run --ensemble` of the space `dropout`, each trial to its end, four times: on this machine alone with
two slots; on two nodes with a slot each, in network namespaces of their own, of which the second sees neither the
first's folders nor the images; the same with the second node killed when half of the epochs are told; and with the
network cut then for 20 s. Homes are new each time, so that images are decoded and kernels compiled in every one. Needs
root on Linux.
"""

import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from optuna.trial import TrialState

from benchmarks.chaos_nodes import Marked, Network, Nodes, able
from benchmarks.chaos_run import epochs_told
from benchmarks.figures import ROOT, Figure, Goal, Machine, finish, parser
from benchmarks.pictures import part_of
from benchmarks.runs import frozen_trials
from search.study import JOURNAL

CUT_SECONDS = 20.0
MB = 10**6
# A network namespace that `ip` enters has its own mounts.
HIDING = 'for place in "$0" "$1"; do mount -t tmpfs none "$place" || exit; done; shift; exec "$@"'


class Apart(Nodes):
    """Two nodes of which the second sees nothing that the first has.

    Args:
        folder, marked, network: as for Nodes.
        data: the folder of the images, which the first has.
    """

    def __init__(self, folder: Path, marked: Marked, network: Network, data: Path) -> None:
        self._data = data
        super().__init__(folder, marked, network)

    def prefix(self, side: int) -> list[str]:
        first, own = (_own_folder(self._folder, number) for number in (0, side))
        hiding = ["sh", "-c", HIDING, str(first), str(self._data)] if side else []
        return [*super().prefix(side), *hiding, "env", f"HOME={own}"]


@dataclass(frozen=True)
class Searched:
    """How a search went."""

    seconds: float
    complete: int  # trials
    ensemble: bool  # whether one was built, on the driver's node
    received: float = 0.0  # MB, by the second node
    sent: float = 0.0  # by it


def _own_folder(folder: Path, side: int) -> Path:
    """Where a node's home is, and its run."""
    own = folder / f"node{side}"
    own.mkdir(exist_ok=True)
    return own


@contextmanager
def place() -> Iterator[tuple[Path, Marked]]:
    """A folder that is new, and what processes are started as. Nothing is left of either."""
    # Short: Ray's sockets are below it, and their names may not be long.
    with tempfile.TemporaryDirectory(prefix="nodes-", ignore_cleanup_errors=True) as name:
        marked = Marked({"PYTHONPATH": str(ROOT), "RAY_TMPDIR": name})
        try:
            yield Path(name), marked
        finally:
            marked.kill()


def alone(data: Path, options: Sequence[str]) -> Searched:
    """A search on this machine alone. Args: data: the CSV."""
    with place() as (folder, marked):
        first = _own_folder(folder, 0)
        command = ["env", f"HOME={first}", *_command(first, data, options)]
        return _search(command, marked.environment, first, lambda told: None)


def on_two(data: Path, options: Sequence[str], half: int, fault: str | None) -> Searched:
    """A search on two nodes.

    Args:
        data: the CSV.
        half: after how many epochs, of all trials, the fault comes.
        fault: node, cut, or None.
    """
    with place() as (folder, marked):
        network = Network()
        try:
            nodes = Apart(folder, marked, network, data.parent)
        except BaseException:  # else they remove it
            network.remove()
            raise
        first = _own_folder(folder, 0)
        due, mended_at = fault, math.inf

        def bring(told: int) -> None:
            nonlocal due, mended_at
            if due is not None and told >= half:
                if due == "node":
                    nodes.kill_other()
                else:
                    network.cut()
                    mended_at = time.monotonic() + CUT_SECONDS
                due = None
            elif time.monotonic() > mended_at:
                network.mend()
                mended_at = math.inf

        try:
            command = [*nodes.prefix(0), *_command(first, data, [*options, "--address", nodes.address])]
            searched = _search(command, nodes.environment, first, bring)
            received, sent = network.moved(1)
        finally:
            nodes.stop()
        return Searched(**{**asdict(searched), "received": received / MB, "sent": sent / MB})


def _command(first: Path, data: Path, options: Sequence[str]) -> list[str]:
    where = ["--data", str(data), "--out", str(first), "--name", "run"]
    return [sys.executable, "-u", "-m", "search.run", "--space", "dropout", *options, *where]


def _search(command: list[str], environment: dict[str, str], first: Path, bring: Callable[[int], None]) -> Searched:
    """Runs a search to its end, and tells `bring` again and again how many epochs its study knows. Ends this process
    where the search fails."""
    began, run, log = time.monotonic(), first / "run", first / "said.txt"
    with open(log, "wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
    while process.poll() is None:
        bring(epochs_told(run / JOURNAL))
        time.sleep(0.1)
    seconds = time.monotonic() - began
    if process.returncode:
        sys.exit(f"The search ended with code {process.returncode}:\n{log.read_text()[-4000:]}")
    complete = sum(trial.state == TrialState.COMPLETE for trial in frozen_trials(run))
    return Searched(seconds, complete, (run / "ensemble.json").exists())


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--data", type=Path, metavar="CSV", help="with Image,Label (default: random images)")
    command.add_argument("--images", type=int, help="of the data (default: all; of random ones 2000)")
    command.add_argument("--image-size", type=int, default=32)
    command.add_argument("--trials", type=int, default=24)
    command.add_argument("--epochs", type=int, default=2)
    arguments = command.parse_args()
    if "root" not in able():
        sys.exit("Network namespaces need root on Linux, and iproute2; run this as root there.")

    with tempfile.TemporaryDirectory() as folder:
        data = part_of(arguments.data, arguments.images, Path(folder))
        options = f"--image-size {arguments.image_size} --trials {arguments.trials} --epochs {arguments.epochs}"
        options += " --scheduler none --max-concurrent 2 --gpus-per-trial 0 --ensemble"
        half = arguments.trials * arguments.epochs // 2
        one = alone(data, options.split())
        two = on_two(data, options.split(), half, None)
        killed = on_two(data, options.split(), half, "node")
        cut = on_two(data, options.split(), half, "cut")
    what = f"{arguments.trials} trials of {arguments.epochs} epochs at {arguments.image_size} px"
    figures = [
        Figure(
            f"{what} on two nodes without a common folder, beside two slots of one, s; ratio of ours over that",
            two.seconds,
            1,
            one.seconds,
            two.seconds / one.seconds,
            Goal("ratio", "<=", 1.1),
        ),
        Figure(f"{what}: what the second node received, MB", two.received, 1),
        Figure(f"{what}: what the second node sent, MB", two.sent, 1),
    ]
    for searched, happened in ((killed, "the second node killed half way"), (cut, "the network cut for 20 s half way")):
        lost = arguments.trials - searched.complete + (not searched.ensemble)
        figures += [
            Figure(f"{what}, {happened}, s", searched.seconds, 1),
            Figure(f"{what}, {happened}: trials that did not end", lost, arguments.trials, goal=Goal("ours", "<=", 0)),
        ]
    details = {"one": asdict(one), "two": asdict(two), "killed": asdict(killed), "cut": asdict(cut)}
    finish("two_nodes", machine, figures, details, arguments.out)


if __name__ == "__main__":
    main()
