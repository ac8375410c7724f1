"""What N trials on one node pay for one cache of decoded pixels, against a copy each.

    python -m benchmarks.memory --processes 4 --gigabytes 1

Each process opens the cache as a trial does (`Pixels.open`, in `Examples`) and reads every image through the batches of
training (`Images`). While all hold it, the proportional set sizes of the mapping are summed: a page that k processes
share counts 1/k in each. Beside it stands by how much each process's anonymous memory grew in the meantime: the heap
that batches take, whatever the cache's size; and a copy of the pixels, if there were one.
"""

import multiprocessing
import re
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, Goal, Machine, finish, parser
from benchmarks.train_throughput import examples_from
from trainable.device import choose
from trainable.images import Images
from trainable.pixels import Pixels

SIZE, BATCH = 64, 256
MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ [0-9a-f]+ \S+ \d+ *(.*)")  # a mapping's first line, with its file


def sizes_of(smaps: str, path: str) -> tuple[int, int]:
    """Bytes of the proportional set size of a file's mappings, and of all anonymous memory (the heap and the like).

    Args:
        smaps: the text of /proc/PID/smaps.
        path: the file's, absolute.
    """
    mapped = anonymous = 0
    inside = False
    for line in smaps.splitlines():
        if mapping := MAPPING.fullmatch(line):
            inside = mapping[1] == path
        elif line.startswith("Pss:") and inside:
            mapped += int(line.split()[1]) * 1024
        elif line.startswith("Anonymous:"):
            anonymous += int(line.split()[1]) * 1024
    return mapped, anonymous


def write_cache(path: Path, size_bytes: int) -> None:
    """Random images, as many as make the size."""
    images = max(1, size_bytes // (SIZE * SIZE * 3))
    rng = np.random.default_rng(0)
    with open(path, "wb") as file:
        shape = (images, SIZE, SIZE, 3)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for start in range(0, images, BATCH):
            file.write(rng.bytes(min(BATCH, images - start) * SIZE * SIZE * 3))


def trial(pixels: Pixels, parent: Connection) -> None:
    """Opens and reads all images when the parent says so, and holds them until it says so."""
    device = choose("cpu", threads=1)
    parent.send("started")
    parent.recv()
    examples = examples_from(pixels.open())
    images = Images(examples.pixels, device)
    for start in range(0, len(images), BATCH):
        images(np.arange(start, min(start + BATCH, len(images))))
    parent.send("read")
    parent.recv()


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--processes", type=int, default=4)
    command.add_argument("--gigabytes", type=float, default=1.0)
    arguments = command.parse_args()
    if sys.platform != "linux":
        sys.exit("Proportional set sizes are read from /proc/PID/smaps, which only Linux has; run this on Linux.")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"pixels-{SIZE}px.npy").resolve()
        write_cache(path, round(arguments.gigabytes * 1e9))
        one_copy = path.stat().st_size
        mapped, grown = measure(Pixels(path, SIZE, "random"), arguments.processes)
    in_all, copies = sum(mapped) / 1e6, arguments.processes * one_copy / 1e6
    what = f"{arguments.processes} trials on one cache of {one_copy / 1e6:.0f} MB"
    figures = [
        Figure(
            f"{what}: pixels in all, MB; the peer is a copy each, by arithmetic; ratio of the peer's over ours",
            ours=in_all,
            peer=copies,
            ratio=copies / in_all,
            n=1,
        ),
        Figure(f"{what}: pixels beyond one copy, MB", in_all - one_copy / 1e6, n=1, goal=Goal("ours", "<=", 100)),
    ]
    details = {
        "pixels_of_each_mb": [round(size / 1e6, 1) for size in mapped],
        "anonymous_grown_by_each_mb": [round(size / 1e6, 1) for size in grown],
    }
    finish("memory", machine, figures, details, arguments.out)


def measure(pixels: Pixels, processes: int) -> tuple[list[int], list[int]]:
    """Bytes of the pixels' mapping in each process when all have read it, and by how many its anonymous memory grew."""
    context = multiprocessing.get_context("spawn")
    trials = []
    for _ in range(processes):
        ours, theirs = context.Pipe()
        process = context.Process(target=trial, args=(pixels, theirs), daemon=True)
        process.start()
        theirs.close()  # so that a trial that dies is heard of
        trials.append((process, ours))

    def sizes() -> list[tuple[int, int]]:
        texts = [Path(f"/proc/{process.pid}/smaps").read_text() for process, _ in trials]
        return [sizes_of(text, str(pixels.path)) for text in texts]

    for _, connection in trials:
        connection.recv()
    before = sizes()
    for _, connection in trials:
        connection.send("read")
    for _, connection in trials:
        connection.recv()
    after = sizes()
    for process, connection in trials:
        connection.send("end")
        process.join()
    grown = [late - early for (_, early), (_, late) in zip(before, after, strict=True)]
    return [mapped for mapped, _ in after], grown


if __name__ == "__main__":
    main()
