"""Which faults a search is to survive, and when: all of it follows from a seed."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

TRIALS, EPOCHS = 6, 6  # of a search
MOST_FAULTS = 3
LATEST_EPOCH = 14  # after which a fault comes: with early stopping a search has few more
START_SECONDS = 9.0  # in which a command reads its data and starts Ray
EPOCH_SECONDS = 0.5
HEAD_SHARE = 0.15  # of the schedules on two nodes in which one of the faults is the head's death

Need = Literal["root", "nodes"]


@dataclass(frozen=True)
class Kind:
    """One kind of fault."""

    name: str
    summary: str
    needs: frozenset[Need] = frozenset()  # of the machine; and whether there are two nodes
    kills: bool = True  # whether it may cost each trial under way an epoch


KINDS = {
    kind.name: kind
    for kind in (
        Kind("worker", "a worker gets SIGKILL"),
        Kind("driver", "the command gets SIGKILL, and is given again"),
        Kind("signal", "the command gets SIGINT or SIGTERM, and is given again"),
        Kind("torn", "as driver; then a file of an open trial is cut short or garbled"),
        Kind("journal", "as driver; then the study's last line is cut short, or half a line follows it"),
        Kind("clock", "time.time() jumps by up to a day, either way", kills=False),
        Kind("disk", "the run's disk is full for some seconds", frozenset({"root"})),
        Kind("node", "all of the node without the driver gets SIGKILL; another joins", frozenset({"nodes"})),
        Kind("head", "Ray on the driver's node, the head, gets SIGKILL; another cluster", frozenset({"nodes"})),
        Kind("cut", "no packet passes between the nodes for some seconds", frozenset({"root", "nodes"})),
        Kind("memory", "Ray's memory monitor sees too little left, and kills a worker", frozenset({"root", "nodes"})),
    )
}


@dataclass(frozen=True)
class Fault:
    """A fault and its moment."""

    kind: str  # of KINDS
    epochs: int  # of all trials together, which the study knows by then; 0: any time since the command
    seconds: float  # after that
    chance: float  # in [0, 1): decides which worker, which file, how long

    def __str__(self) -> str:
        return f"{self.kind}@{self.epochs}+{self.seconds:.1f}s/{self.chance:.3f}"


@dataclass(frozen=True)
class Schedule:
    """A search and the faults that come over it, in their order."""

    seed: int
    scheduler: str  # as of search.run
    nodes: int  # 1: the driver has a Ray of its own; 2: it joins one, and is on one of the nodes
    nans: tuple[int, ...]  # the numbers of the trials whose losses are NaN
    faults: tuple[Fault, ...]

    def __str__(self) -> str:
        nans = "".join(f" nan:{number}" for number in self.nans)
        faults = " ".join(map(str, self.faults)) or "nothing"
        return f"seed {self.seed}, {self.scheduler}, {self.nodes} node{'s'[: self.nodes - 1]}:{nans} {faults}"

    def possible(self, able: Collection[Need]) -> "Schedule":
        """What is left of it on a machine that is able to do no more than that."""
        nodes = self.nodes if "nodes" in able else 1
        here = {need for need in able if need != "nodes" or nodes == 2}
        return replace(
            self, nodes=nodes, faults=tuple(fault for fault in self.faults if KINDS[fault.kind].needs <= here)
        )


def schedule(seed: int) -> Schedule:
    """The schedule of a seed, always the same."""
    rng = np.random.default_rng(seed)
    nodes = int(rng.integers(1, 3))
    kinds = [kind.name for kind in KINDS.values() if kind.name != "head" and (nodes == 2 or "nodes" not in kind.needs)]
    faults = []
    for _ in range(rng.integers(1, MOST_FAULTS + 1)):
        epochs = int(rng.integers(0, LATEST_EPOCH + 1))
        seconds = rng.uniform(0, EPOCH_SECONDS if epochs else START_SECONDS)
        faults.append(Fault(str(rng.choice(kinds)), epochs, round(float(seconds), 2), round(float(rng.random()), 3)))
    scheduler = str(rng.choice(["asha", "none"]))
    nans = tuple(number for number in range(TRIALS) if rng.random() < 0.15)
    # After all else, so that a seed's schedule is otherwise what it was before there was this kind.
    if nodes == 2 and rng.random() < HEAD_SHARE:
        place = int(rng.integers(len(faults)))
        faults[place] = replace(faults[place], kind="head")
    return Schedule(
        seed=seed,
        scheduler=scheduler,
        nodes=nodes,
        nans=nans,
        faults=tuple(sorted(faults, key=lambda fault: fault.epochs)),
    )
