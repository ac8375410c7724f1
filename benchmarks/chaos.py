"""Searches under random faults: each follows from a seed, and has to end as if nothing had happened.

    python -m benchmarks.chaos --schedules 200 --first-seed 1 --folder chaos
    python -m benchmarks.chaos --schedules 1 --first-seed 17 --folder again    # one of them once more

A schedule is one to three faults that come over `python -m search.run` with six small trials on the built-in digits.
Workers, the command, a node get SIGKILL; the network between two nodes is cut; the disk is full; files of open trials
and the study are torn; losses are NaN; Ray's memory monitor kills workers; the clock jumps. The same command is given
again until it says that it is done. Then the run's folder is checked (chaos_check.py), and each trial's metrics are
compared with those of a search that nothing happened to.

Full disks, cut networks and short memory need root on Linux; where that is not to be had they are left out, and it is
said. A line a schedule goes to stderr, the result to stdout. --folder keeps the outcomes: given again with the
same code, it goes on.
"""

import json
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from benchmarks.chaos_check import History, history
from benchmarks.chaos_nodes import Network, Nodes, able
from benchmarks.chaos_run import NAME, Outcome, Place, Siege
from benchmarks.chaos_schedule import KINDS, Schedule, schedule
from benchmarks.figures import Figure, Goal, Machine, finish, parser
from search.cli import terminate
from trainable.files import write_json

SHOWN = 3  # of the sentences on what is wrong
UNBROKEN = Schedule(seed=0, scheduler="none", nodes=1, nans=(), faults=())


class Arena:
    """Where schedules are run, one after the other, on one cluster as long as that is well.

    Args:
        folder: for all that is written.
        root: whether networks may be made, and cut.
    """

    def __init__(self, folder: Path, root: bool) -> None:
        self._place = Place(folder, disk=root)
        self._root = root
        self._nodes: Nodes | None = None
        self.keeps = False  # whether a search did not come through, and is to be looked at

    def unbroken(self) -> History:
        """What is left of a search that nothing happens to. Ends this process where that is not well."""
        folder = self._place.folder / "unbroken"
        outcome = Siege(UNBROKEN, self._place, folder).come_through(None)
        if outcome.wrong:
            sys.exit(f"A search that nothing happens to is not well: {'; '.join(outcome.wrong)}")
        return history(folder / NAME)

    def outcome(self, planned: Schedule, unbroken: History | None) -> Outcome:
        """Runs a schedule. What a search leaves that did not come through stays in the folder.

        Args:
            unbroken: as for `Siege.come_through`.
        """
        self._place.nodes = self._cluster() if planned.nodes == 2 else None
        folder = self._place.folder / f"seed{planned.seed}"
        outcome = Siege(planned, self._place, folder).come_through(unbroken)
        if outcome.wrong or planned.nodes == 1:
            self._end_all()  # of a killed command's Ray some processes would linger for a minute
        if outcome.wrong:
            self.keeps = True
        else:
            shutil.rmtree(folder)
        return outcome

    def _cluster(self) -> Nodes:
        if self._nodes is None:
            self._nodes = Nodes(self._place.folder, self._place.marked, Network() if self._root else None)
        return self._nodes

    def close(self) -> None:
        """Ends all processes, and removes the disk."""
        self._end_all()
        self._place.close()

    def _end_all(self) -> None:
        if self._nodes is not None:
            self._nodes.stop()
            self._nodes = None
        self._place.marked.kill()


@contextmanager
def arena(root: bool) -> Iterator[Arena]:
    """In a folder that goes, but for what did not come through."""
    # Short: Ray's sockets are below it, and their names may not be long.
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    made = Arena(folder, root)
    try:
        yield made
    finally:
        made.close()
        if made.keeps:
            print(f"Kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def outcomes(seeds: Sequence[int], folder: Path) -> dict[int, Outcome]:
    """The outcome of each seed; those that the folder has are not run again."""
    found = {}
    known = {seed: folder / f"{seed}.json" for seed in seeds}
    left = [seed for seed, path in known.items() if not path.exists()]
    if left:
        needs = able()
        if "root" not in needs:
            without = [kind.name for kind in KINDS.values() if "root" in kind.needs]
            print(f"Left out, as this process may not do them: {', '.join(without)}", file=sys.stderr)
        with arena("root" in needs) as made:
            unbroken = made.unbroken()
            # Those on one node and those on two apart, so that one cluster serves many.
            for seed in sorted(left, key=lambda seed: (schedule(seed).nodes, seed)):
                outcome = made.outcome(schedule(seed).possible(needs), unbroken)
                write_json(known[seed], asdict(outcome))
                print(line(outcome), file=sys.stderr, flush=True)
    for seed, path in known.items():
        found[seed] = Outcome(**json.loads(path.read_text()))
    return found


def line(outcome: Outcome) -> str:
    """An outcome in a line."""
    more = len(outcome.wrong) - SHOWN
    wrong = "; ".join(outcome.wrong[:SHOWN]) + (f"; and {more} more" if more > 0 else "") or "came through"
    came = f"{len(outcome.happened)} came, {outcome.deaths} workers died, {outcome.sessions} commands"
    return f"{outcome.line}: {came}, {outcome.seconds:.0f} s: {wrong}"


def report(found: dict[int, Outcome], machine: Machine, out: Path | None) -> None:
    """Prints and writes how many came through, and each."""
    wrong = sum(bool(outcome.wrong) for outcome in found.values())
    kinds = Counter(name.partition("@")[0] for outcome in found.values() for name in outcome.happened)
    figure = Figure(
        "schedules of faults that a search did not come through", wrong, len(found), goal=Goal("ours", "<=", 0)
    )
    details = {
        "faults": dict(kinds),
        "minutes": round(sum(outcome.seconds for outcome in found.values()) / 60),
        "schedules": [line(outcome) for outcome in found.values()],
    }
    finish("chaos", machine, [figure], details, out)


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--schedules", type=int, default=200)
    command.add_argument("--first-seed", type=int, default=1)
    command.add_argument("--folder", type=Path, required=True, help="for the outcomes")
    arguments = command.parse_args()
    if sys.platform != "linux":
        sys.exit("Processes are found by /proc, which only Linux has; run this on Linux.")
    signal.signal(signal.SIGTERM, terminate)  # in order: nodes, namespaces and a disk are to be removed
    folder = arguments.folder / machine.code[:12]
    folder.mkdir(parents=True, exist_ok=True)
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.schedules)
    report(outcomes(seeds, folder), machine, arguments.out)


if __name__ == "__main__":
    main()
