"""What a benchmark leaves: figures beside their peer's and their goal, and the machine that they were measured on."""

import argparse
import json
import operator
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from results.fingerprint import code_fingerprint
from trainable.files import write_json

LIBRARIES = ("torch", "ray", "optuna")
ROOT = Path(__file__).resolve().parents[1]
COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt}


@dataclass(frozen=True)
class Goal:
    """What a figure is to reach."""

    of: str  # a field of Figure: ours or ratio
    sign: str  # of COMPARE
    value: float

    def __str__(self) -> str:
        return f"{self.of} {self.sign} {self.value:g}"


@dataclass(frozen=True)
class Figure:
    """A line of RESULTS.md."""

    what: str  # with its unit, and what the ratio is of
    ours: float
    n: int  # pairs, runs or images
    peer: float | None = None
    ratio: float | None = None
    goal: Goal | None = None

    @property
    def met(self) -> bool | None:
        """Whether the goal was reached; None where there is none."""
        if self.goal is None:
            return None
        return bool(COMPARE[self.goal.sign](getattr(self, self.goal.of), self.goal.value))

    def to_json(self) -> dict[str, Any]:
        """The figure, its goal in words."""
        return {**asdict(self), "goal": None if self.goal is None else str(self.goal), "met": self.met}


@dataclass(frozen=True)
class Machine:
    """Where and by what a benchmark runs; to be asked for at its start, as it says how busy the machine was then."""

    cpu: str
    cores: int
    bf16: str  # the instructions for it: amx, avx512 or none
    memory_gb: float
    gpu: str  # or none
    system: str
    versions: dict[str, str]
    commit: str  # with + where files have changed since; none outside a repository
    code: str  # a hash of the Python files
    date: str
    load_average: float | None  # of the last minute

    @classmethod
    def now(cls) -> "Machine":
        """This one."""
        capabilities = torch.cpu.get_capabilities()
        bf16 = "amx" if capabilities.get("amx_bf16") else "avx512" if capabilities.get("avx512_bf16") else "none"
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return cls(
            cpu=_cpu(),
            cores=os.cpu_count() or 1,
            bf16=bf16,
            memory_gb=round(memory / 1e9, 1),
            gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
            system=platform.system(),
            versions={"python": platform.python_version()} | {name: _version(name) for name in LIBRARIES},
            commit=_commit(),
            code=code_fingerprint(("benchmarks", "results", "search", "spaces", "trainable")),
            date=time.strftime("%Y-%m-%d %H:%M"),
            load_average=round(os.getloadavg()[0], 2),
        )


def parser(doc: str | None, **out: Any) -> argparse.ArgumentParser:
    """The command line of a benchmark, which has --out.

    Args:
        doc: the module's docstring.
        out: what is to be said otherwise of --out.
    """
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--out", type=Path, metavar="JSON", **{"help": "where the result is also written", **out})
    return made


def finish(benchmark: str, machine: Machine, figures: Sequence[Figure], details: Any, out: Path | None) -> None:
    """Prints the result as JSON, and writes it where that is asked for."""
    result = result_of(benchmark, machine, figures, details)
    print(json.dumps(result, indent=2))
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, result)


def result_of(benchmark: str, machine: Machine, figures: Sequence[Figure], details: Any) -> dict[str, Any]:
    """What benchmarks/results.py reads."""
    # Where the data lies on this machine is nobody's business.
    words = ["/".join(Path(word).parts[-2:]) if word.startswith("/") else word for word in sys.argv[1:]]
    began = time.mktime(time.strptime(machine.date, "%Y-%m-%d %H:%M"))
    return {
        "benchmark": benchmark,
        "command": shlex.join(["python", "-m", f"benchmarks.{benchmark}", *words]),
        "machine": asdict(machine),
        "minutes": round((time.time() - began) / 60),
        "figures": [figure.to_json() for figure in figures],
        "details": details,
    }


def _cpu() -> str:
    """Its name, and where there are such its family and model: a cloud's name of a CPU is that of several."""
    path = Path("/proc/cpuinfo")
    text = path.read_text().partition("\n\n")[0] if path.exists() else ""
    said = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
    if "model name" not in said:
        return platform.processor() or platform.machine()
    numbers = [f"{name.removeprefix('cpu ')} {said[name]}" for name in ("cpu family", "model") if name in said]
    return " ".join([said["model name"], *numbers])


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:  # benchmarks.gpu does without some
        return "none"


def _commit() -> str:
    try:
        git = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"]
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"
