"""Processes, networks and disks that can be broken on purpose, and are put right again."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.chaos_schedule import Need

# So that a node is taken for dead after some eight seconds, not half a minute.
HEALTH = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_memory_monitor_refresh_ms": "100",
}
PATIENCE_SECONDS = 90.0
HEARSAY_SECONDS = 5.0
LOOPBACK, PORT = "127.0.0.1", 6379
MEMORY = Path("/proc/meminfo")  # which Ray's monitor reads


class NodeError(RuntimeError):
    """A node did not come up."""


def able() -> frozenset[Need]:
    """What this machine lets a process like this one break."""
    needs: set[Need] = {"nodes"}
    tools = all(shutil.which(tool) for tool in ("ip", "mount", "umount"))
    if sys.platform == "linux" and tools and os.geteuid() == 0:
        name = f"chaos-{os.getpid()}"
        if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode == 0:
            subprocess.run(["ip", "netns", "delete", name], check=True)
            needs.add("root")
    return frozenset(needs)


class Marked:
    """All processes that have a mark in their environment, however they were started. Linux.

    Args:
        variables: what else is in it.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._mark = secrets.token_hex(8)
        inherited = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "COLUMNS")}
        self.environment = {**inherited, **variables, "CHAOS": self._mark}

    def processes(self) -> dict[int, str]:
        """The command line of each that lives, by its id."""
        mark, found = f"CHAOS={self._mark}".encode(), {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    found[int(process.name)] = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it has ended, or is another's
                continue
        return {pid: line for pid, line in found.items() if line}  # a zombie has no command line

    def workers(self) -> list[int]:
        """Those that train, in the order of their ids."""
        return sorted(pid for pid, line in self.processes().items() if line.startswith("ray::ConvNetTrial"))

    def kill(self) -> None:
        """Ends them all at once."""
        for pid in self.processes():
            kill(pid, signal.SIGKILL)


def kill(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a process, which may have ended."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def wait_for(happened: Callable[[], bool], seconds: float) -> bool:
    """Whether something happens within so many seconds."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class Network:
    """Two network namespaces on a bridge in a third, whose port is the cable that can be pulled: their own interfaces
    stay up, as those of machines do."""

    def __init__(self) -> None:
        name = f"chaos{os.getpid()}"
        self.sides = (f"{name}a", f"{name}b")
        self._between = f"{name}c"
        for namespace in (*self.sides, self._between):
            _ip("netns", "add", namespace)
        _ip("-n", self._between, "link", "add", "bridge", "type", "bridge")
        _ip("-n", self._between, "link", "set", "bridge", "up")
        for number, side in enumerate(self.sides):
            port = f"port{number}"
            _ip("link", "add", "node", "netns", side, "type", "veth", "peer", "name", port, "netns", self._between)
            _ip("-n", self._between, "link", "set", port, "master", "bridge", "up")
            _ip("-n", side, "address", "add", f"{self.address(number)}/24", "dev", "node")
            _ip("-n", side, "link", "set", "node", "up")
            _ip("-n", side, "link", "set", "lo", "up")

    def address(self, side: int) -> str:
        """Of a namespace."""
        return f"10.78.0.{1 + side}"

    def cut(self) -> None:
        """From now on no packet passes."""
        _ip("-n", self._between, "link", "set", "port1", "down")

    def mend(self) -> None:
        """They pass again."""
        _ip("-n", self._between, "link", "set", "port1", "up")

    def moved(self, side: int) -> tuple[int, int]:
        """How many bytes a namespace has received, and sent."""
        link = ["ip", "-n", self.sides[side], "-json", "-statistics", "link", "show", "node"]
        (found,) = json.loads(subprocess.run(link, check=True, capture_output=True).stdout)
        return found["stats64"]["rx"]["bytes"], found["stats64"]["tx"]["bytes"]

    def remove(self) -> None:
        for namespace in (*self.sides, self._between):
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Nodes:
    """A cluster of two nodes of one CPU each. The driver is on the first, the head; both can be killed, the second cut
    off and made to believe that its memory is short.

    Args:
        folder: for their logs.
        marked: what they are started as.
        network: of two namespaces, for the nodes; None: both are at the loopback, and cannot be cut.
    """

    def __init__(self, folder: Path, marked: Marked, network: Network | None) -> None:
        self._folder, self._network = folder, network
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.environment = {**marked.environment, **HEALTH, **token}
        self._memory = folder / "meminfo"
        self.let_breathe()
        self._started, self._is_cut, self._head_killed = 0, False, False
        self._head, self._other, self.address = self._begin()

    def prefix(self, side: int) -> list[str]:
        """What a command begins with that runs on a node."""
        return ["ip", "netns", "exec", self._network.sides[side]] if self._network else []

    def kill_other(self) -> None:
        """As when the machine loses its power."""
        self._other.kill()

    def kill_head(self) -> None:
        """Its node has nothing left but the driver, and the other nobody to obey."""
        self._head.kill()
        self._head_killed = True

    def ready(self) -> None:
        """Puts right all that is broken, for the next command: another cluster where the head is gone."""
        self.mend()
        if self._head_killed:
            self._other.kill()
            self._forget()
            self._head_killed = False
            self._head, self._other, self.address = self._begin()

    def mend(self) -> None:
        """Puts right what is broken and may be while a command goes on: the network, the memory, the second node.
        Raises NodeError where that fails."""
        self.let_breathe()
        if self._network is not None and self._is_cut:
            self._network.mend()
            self._is_cut = False
            # It ends by itself as soon as it hears that it has been taken for dead.
            wait_for(lambda: self._other.ended, HEARSAY_SECONDS)
        if self._head_killed:
            return
        if self._other.ended:
            self._other = self._join(self.address)
        if self._head.ended:
            raise NodeError("the first node has ended by itself")

    def cut(self) -> None:
        """Pulls the cable."""
        assert self._network is not None
        self._network.cut()
        self._is_cut = True

    def choke(self) -> None:
        """From now on the second node reads that it has no memory left."""
        text = self._memory.read_text()
        lines = [line if not line.startswith("MemAvailable") else "MemAvailable: 1000 kB" for line in text.splitlines()]
        self._memory.write_text("\n".join(lines) + "\n")

    def let_breathe(self) -> None:
        """It reads the truth again."""
        self._memory.write_text(MEMORY.read_text())

    def stop(self) -> None:
        """Ends both, and removes the network."""
        self._other.kill()
        self._head.kill()
        self._forget()
        if self._network is not None:
            self._network.remove()

    def _forget(self) -> None:
        """Removes what Ray notes of a head: one that was killed is taken for running where another has its address."""
        Path(self.environment["RAY_TMPDIR"], "ray", "ray_current_cluster").unlink(missing_ok=True)

    def _begin(self) -> tuple["_Node", "_Node", str]:
        """The head, the other, and the address of a new cluster."""
        head = self._start(0, "--head", f"--port={PORT if self._network else 0}", "--include-dashboard=false")
        address = head.said("--block").partition("--address='")[2].partition("'")[0]
        return head, self._join(address), address

    def _join(self, address: str) -> "_Node":
        node = self._start(1, f"--address={address}")
        node.said("--block")  # of its last paragraph, once all is up
        return node

    def _start(self, side: int, *options: str) -> "_Node":
        self._started += 1
        address = self._network.address(side) if self._network else LOOPBACK
        fixed = "--block --num-cpus=1 --num-gpus=0 --disable-usage-stats --dashboard-agent-listen-port=0"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *options, *fixed.split()]
        command.append(f"--node-ip-address={address}")
        if self._network and side == 1:
            # The namespace has its own mounts: what Ray reads there of memory is a file of ours.
            command = ["sh", "-c", f'mount --bind "$0" {MEMORY} && exec "$@"', str(self._memory), *command]
        log = self._folder / f"node{self._started}.log"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [*self.prefix(side), *command], env=self.environment, stdout=file, stderr=subprocess.STDOUT
            )
        return _Node(process, log)


@dataclass(frozen=True)
class _Node:
    """A `ray start --block`."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def said(self, word: str) -> str:
        """All that it has said once a word has come in it. Raises NodeError where it ends before."""
        wait_for(lambda: word in self.log.read_text() or self.ended, PATIENCE_SECONDS)
        said = self.log.read_text()
        if self.ended or word not in said:
            raise NodeError(f"a node did not come up:\n{said[-2000:]}")
        return said

    def kill(self) -> None:
        """With all that it has started."""
        if not self.ended:  # else its number could be another's
            node = psutil.Process(self.process.pid)
            for process in [node, *node.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()
