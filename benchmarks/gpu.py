"""Training on one GPU, measured from all sides in a few minutes, by torch, numpy, Pillow and safetensors, without Ray.

    python -m benchmarks.gpu --out gpu.json
    python -m benchmarks.gpu --out gpu.json --device cpu --quick    # tiny, to see that it works

Its parts, each a table, and a part that fails is recorded with its error while the others go on:

    peak         the card's bfloat16 rate, by products of large matrices
    throughput   images a second of training epochs, validation included: ours, and the report's loop on the same card
    formats      ours in float32, TF32 and bfloat16
    compile      a step as it is and by torch.compile: seconds to compile, steady rates, after how many epochs it pays
    packing      several trials on the card, by threads (a stream each) and by processes: the rate of all together
    memory       the most that a trial has allocated
    profile      what the card does in a step, by operator

Random pixels of five classes, the report's network, batches of 64. Rates are taken over whole epochs or many steps,
the card's work ended before a clock is read, warmed up before, what is compared in turn. The JSON is written anew after
each part.
"""

import contextlib
import dataclasses
import gc
import multiprocessing
import os
import statistics
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

from benchmarks.figures import Figure, Goal, Machine, parser, result_of
from benchmarks.flops import forward_flops, training_flops
from benchmarks.report_loop import report_epochs
from benchmarks.train_throughput import random_examples
from trainable.augment import Augmenter
from trainable.config import TrialConfig
from trainable.device import Device, choose
from trainable.errors import UserError
from trainable.evaluate import normalised
from trainable.examples import Examples
from trainable.files import write_json
from trainable.fit import fit
from trainable.images import Images
from trainable.loss import cross_entropy
from trainable.network import build_network
from trainable.optim import OPTIMIZERS

LIMIT_SECONDS = 400.0  # nothing long begins later, so that all ends before eight minutes
ANSWER_SECONDS = 120.0  # in which a process must have said something
Table = list[dict[str, Any]]


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    sizes: tuple[int, ...]  # pixels, of throughput and memory
    compared: tuple[int, ...]  # pixels, of formats, compile and packing
    profiled: int  # pixels
    images: int  # 70 % to train on
    batch: int
    rounds: int
    steps: int  # timed together
    matrix: int  # side
    packs: tuple[int, ...]  # trials at once
    seconds: float  # of each pack
    modes: tuple[str, ...]  # of torch.compile


FULL = Scale((64, 128, 224), (64, 128), 128, 6000, 64, 3, 50, 8192, (1, 2, 4), 3.0, ("default", "reduce-overhead"))
QUICK = Scale((28, 32), (28,), 32, 64, 8, 2, 2, 256, (1, 2), 0.2, ("default",))


@dataclass(frozen=True)
class Products:
    """How this process multiplies float32 on a card: torch's settings, which hold for all that it does."""

    conv: str
    matmul: str
    deterministic: bool
    autotuned: bool

    @classmethod
    def now(cls) -> "Products":
        """The settings as they are."""
        cudnn = torch.backends.cudnn
        conv, matmul = cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision  # type: ignore[attr-defined]
        return cls(conv, matmul, cudnn.deterministic, cudnn.benchmark)

    def apply(self) -> None:
        """Makes them so."""
        cudnn = torch.backends.cudnn
        cudnn.conv.fp32_precision = self.conv  # type: ignore[attr-defined]  # made at run time
        torch.backends.cuda.matmul.fp32_precision = self.matmul
        cudnn.deterministic, cudnn.benchmark = self.deterministic, self.autotuned


@dataclass(frozen=True)
class Bench:
    """What the parts have in common."""

    name: str  # of the device, as in `device.choose`
    scale: Scale
    stock: Products  # as torch comes: the peer's
    latest: float  # time.monotonic() after which nothing long is begun

    def device(self) -> Device:
        """Ours, as a search would choose it; its settings hold from now on."""
        return choose(self.name, threads=1)

    def config(self, size: int, epochs: int = 1) -> TrialConfig:
        """The report's recipe."""
        return TrialConfig(image_size=size, batch_size=self.scale.batch, epochs=epochs)

    def examples(self, size: int) -> Examples:
        """Random ones."""
        return random_examples(self.scale.images, size)


def synchronise(device: Device) -> None:
    """Waits until the work of this thread's stream is done."""
    if device.device.type == "cuda":
        torch.cuda.current_stream(device.device).synchronize()


class Steps:
    """The steps of one trial, as `fit` takes them, on whole batches of its training images.

    Args:
        mode: of torch.compile; None: not compiled.
    """

    def __init__(self, config: TrialConfig, examples: Examples, device: Device, mode: str | None = None) -> None:
        self.device, self.batch, self.preprocessing = device, config.batch_size, examples.preprocessing
        torch.manual_seed(config.seed)
        self.model = device.place(build_network(config, examples.preprocessing)).train()
        self.network: Callable[..., torch.Tensor] = self.model
        if mode is not None:
            self.network = torch.compile(self.model, mode=mode)
        self.compiled = mode is not None
        self.optimizer = OPTIMIZERS[config.optimizer].build(self.model.parameters(), config)
        fill = [255 * mean for mean in examples.preprocessing.mean]
        self.augmenter = Augmenter(config.augment, len(examples.labels), config.seed, fill, device)
        self.images = Images(examples.pixels, device)
        self.metadata = torch.from_numpy(examples.metadata).to(device.device)
        self.labels = torch.from_numpy(examples.labels).to(device.device)
        whole = len(examples.train) // self.batch
        order = np.random.default_rng(config.seed).permutation(examples.train)
        self.batches = order[: whole * self.batch].reshape(whole, self.batch)
        self.loss_sum = torch.zeros((), device=device.device)
        self.taken = 0

    def run(self, steps: int) -> None:
        """Takes so many steps, and waits for nothing."""
        for _ in range(steps):
            rows = self.batches[self.taken % len(self.batches)]
            self.taken += 1
            self.optimizer.zero_grad()  # first, as a compiled network's gradients lie where its next outputs will be
            if self.compiled:
                torch.compiler.cudagraph_mark_step_begin()
            chosen = torch.from_numpy(rows)
            on_device = self.device.send(chosen)
            images = normalised(self.augmenter(self.images(rows), chosen, self.taken), self.preprocessing)
            with self.device.autocast():
                outputs = self.network(images, self.metadata[on_device])
            loss = cross_entropy(outputs.float(), self.labels[on_device]).mean()
            loss.backward()
            self.optimizer.step()
            self.loss_sum += loss.detach()

    def seconds(self, steps: int) -> float:
        """What so many steps take, to their end on the device."""
        synchronise(self.device)
        started = time.perf_counter()
        self.run(steps)
        synchronise(self.device)
        return time.perf_counter() - started

    def rate(self, seconds: float) -> float:
        """Images a second, over at least so long."""
        images, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < seconds:
            self.run(10)
            synchronise(self.device)
            images += 10 * self.batch
        return images / passed


def peak(bench: Bench) -> Table:
    """The best rate of products of square bfloat16 matrices."""
    device = bench.device()
    side, products = bench.scale.matrix, 50
    a, b = torch.randn(2, side, side, device=device.device).bfloat16()
    seconds = []
    for _ in range(bench.scale.rounds + 1):  # the first warms up, and is never the best
        synchronise(device)
        started = time.perf_counter()
        for _ in range(products):
            a @ b
        synchronise(device)
        seconds.append((time.perf_counter() - started) / products)
    return [{"format": "bfloat16", "side": side, "tflops": 2 * side**3 / min(seconds) / 1e12}]


def throughput(bench: Bench, peak_tflops: float | None) -> Table:
    """Epochs of ours and of the report's loop, in turn."""
    rows = []
    for size in bench.scale.sizes:
        examples, config = bench.examples(size), bench.config(size, bench.scale.rounds + 1)
        device = bench.device()
        ours = Products.now()
        run, peer = fit(config, examples, device), report_epochs(config, examples, device.device)
        seconds: list[tuple[float, float]] = []
        for _ in range(bench.scale.rounds + 1):
            ours.apply()
            mine = next(run).row["seconds"]
            bench.stock.apply()
            seconds.append((mine, next(peer).seconds))
        del run, peer
        flops = epoch_flops(config, examples)
        trained = len(examples.train)
        ratios = [theirs / mine for mine, theirs in seconds[1:]]
        median = statistics.median(mine for mine, _ in seconds[1:])
        rows.append(
            {
                "image_size": size,
                "train_images": trained,
                "ours": [trained / mine for mine, _ in seconds[1:]],
                "report_loop": [trained / theirs for _, theirs in seconds[1:]],
                "ratio_median": statistics.median(ratios),
                "ratio_range": [min(ratios), max(ratios)],
                "n": len(ratios),
                "gflops_an_image": flops / trained / 1e9,
                "ours_tflops": flops / median / 1e12,
                "share_of_peak": None if peak_tflops is None else flops / median / 1e12 / peak_tflops,
            }
        )
    return rows


def epoch_flops(config: TrialConfig, examples: Examples) -> float:
    """Of an epoch with its validation."""
    width, classes = examples.metadata.shape[1], len(examples.preprocessing.classes)
    train, valid = len(examples.train), len(examples.valid)
    return train * training_flops(config, width, classes) + valid * forward_flops(config, width, classes)


def formats(bench: Bench) -> Table:
    """Epochs of ours in each format of products, in turn."""
    single = choose(bench.name, "float32", threads=1)
    settings = {"float32": (single, Products.now())}
    if single.device.type == "cuda":
        settings["tf32"] = (single, dataclasses.replace(Products.now(), conv="tf32", matmul="tf32"))
    half = choose(bench.name, "bfloat16", threads=1)
    settings["bfloat16"] = (half, Products.now())
    rows = []
    for size in bench.scale.compared:
        examples, config = bench.examples(size), bench.config(size, bench.scale.rounds + 1)
        runs = {name: fit(config, examples, device) for name, (device, _) in settings.items()}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(bench.scale.rounds + 1):
            for name, (_, products) in settings.items():
                products.apply()
                seconds[name].append(next(runs[name]).row["seconds"])
        medians = {name: statistics.median(taken[1:]) for name, taken in seconds.items()}
        rows += [
            {
                "image_size": size,
                "format": name,
                "images_per_second": len(examples.train) / median,
                "against_float32": medians["float32"] / median,
                "n": bench.scale.rounds,
            }
            for name, median in medians.items()
        ]
    return rows


def compiling(bench: Bench) -> Table:
    """Steps as they are and compiled, in turn; then compiled again, which finds the first one's code on disk. Sizes and
    modes for which there is no time are left out."""
    rows: Table = []
    early = 3  # steps until all is compiled and, in CUDA graphs, recorded
    for size in bench.scale.compared:
        examples, config, device = bench.examples(size), bench.config(size), bench.device()
        # The compiler's tuning asks for these in a way that raises once they have been set as `choose` sets them on a
        # card. They are torch's own again here; products in bfloat16 do not heed them.
        dataclasses.replace(Products.now(), conv=bench.stock.conv, matmul=bench.stock.matmul).apply()
        stock = Steps(config, examples, device)
        stock.seconds(early)
        for mode in bench.scale.modes:
            if time.monotonic() > bench.latest:
                return rows
            torch.compiler.reset()
            compiled = Steps(config, examples, device, mode)
            first = compiled.seconds(early)
            pairs = [
                (stock.seconds(bench.scale.steps), compiled.seconds(bench.scale.steps))
                for _ in range(bench.scale.rounds)
            ]
            plain, steady = (statistics.median(column) / bench.scale.steps for column in zip(*pairs, strict=True))
            torch.compiler.reset()
            again = Steps(config, examples, device, mode).seconds(early)
            saved = (plain - steady) * len(stock.batches)  # an epoch
            row = {
                "image_size": size,
                "mode": mode,
                "stock": config.batch_size / plain,
                "compiled": config.batch_size / steady,
                "ratio": plain / steady,
                "n": len(pairs),
                "compile_seconds": first - early * steady,
                "again_seconds": again - early * steady,
                "epoch_images": len(stock.batches) * config.batch_size,
            }
            # None: it never pays.
            row["pays_after_epochs"] = row["compile_seconds"] / saved if saved > 0 else None
            row["again_pays_after_epochs"] = row["again_seconds"] / saved if saved > 0 else None
            rows.append(row)
    torch.compiler.reset()
    return rows


def packing(bench: Bench) -> Table:
    """Trials at once, by threads and by processes: images a second of all of them."""
    rows: Table = []
    ways: dict[str, Callable[[Bench, int], list[float]]] = {"threads": in_threads, "processes": in_processes}
    for way, measure in ways.items():
        alone: list[float] = []
        for trials in bench.scale.packs:
            rates = measure(bench, trials)
            alone = alone or rates
            rows += [
                {"by": way, "trials": trials, "image_size": size, "images_per_second": rate, "against_one": rate / one}
                for size, rate, one in zip(bench.scale.compared, rates, alone, strict=True)
            ]
    return rows


def in_threads(bench: Bench, trials: int) -> list[float]:
    """The summed rate at each size, of trials in threads of this process, each on a stream of its own."""
    device = bench.device()
    sums = []
    for size in bench.scale.compared:
        examples, config = bench.examples(size), bench.config(size)
        together = threading.Barrier(trials, timeout=ANSWER_SECONDS)
        shared = Images(examples.pixels, device)  # one copy on the card, there before any stream reads it
        synchronise(device)

        def rate(_: int, examples: Examples = examples, together: threading.Barrier = together) -> float:
            with own_stream(device):
                steps = Steps(config, examples, device)  # noqa: B023  # ends within its turn of the loop
                steps.seconds(bench.scale.steps)
                together.wait()
                return steps.rate(bench.scale.seconds)

        with ThreadPoolExecutor(trials) as pool:
            sums.append(sum(pool.map(rate, range(trials))))
        del shared
    return sums


@contextlib.contextmanager
def own_stream(device: Device) -> Iterator[None]:
    """What this thread does inside goes to a stream of its own, on a card."""
    if device.device.type != "cuda":
        yield
        return
    with torch.cuda.device(device.device), torch.cuda.stream(torch.cuda.Stream(device.device)):
        yield


def in_processes(bench: Bench, trials: int) -> list[float]:
    """The summed rate at each size, of trials in processes."""
    context = multiprocessing.get_context("spawn")
    started: list[tuple[Any, Connection]] = []
    try:
        for _ in range(trials):
            ours, theirs = context.Pipe()
            process = context.Process(target=packed, args=(bench, theirs), daemon=True)
            process.start()
            theirs.close()  # so that a process that dies is heard of
            started.append((process, ours))
        sums = []
        for _ in bench.scale.compared:
            for _, connection in started:
                heard(connection)
            for _, connection in started:
                connection.send("go")
            sums.append(sum(heard(connection) for _, connection in started))
        for process, _ in started:
            process.join(ANSWER_SECONDS)
        return sums
    finally:
        for process, _ in started:
            process.kill()


def heard(connection: Connection) -> float:
    """What the other side says. Raises TimeoutError where it says nothing, EOFError where it has died."""
    if not connection.poll(ANSWER_SECONDS):
        raise TimeoutError(f"a process said nothing in {ANSWER_SECONDS:.0f} s")
    said: float = connection.recv()
    return said


def packed(bench: Bench, parent: Connection) -> None:
    """One of the processes: says 0 when it is warm, waits for the word, and says its rate; for each size."""
    device = bench.device()
    for size in bench.scale.compared:
        steps = Steps(bench.config(size), bench.examples(size), device)
        steps.seconds(bench.scale.steps)
        parent.send(0.0)
        parent.recv()
        parent.send(steps.rate(bench.scale.seconds))


def memory(bench: Bench) -> Table:
    """The most that an epoch of ours, and of the report's loop, has allocated on the card beyond what was there."""
    rows = []
    for size in bench.scale.sizes:
        examples, config, device = bench.examples(size), bench.config(size), bench.device()
        row: dict[str, Any] = {"image_size": size, "pixels_mb": examples.pixels.nbytes / 1e6}
        row["ours_mb"] = allocated(device, lambda: next(fit(config, examples, device)))  # noqa: B023  # called at once
        bench.stock.apply()
        row["report_loop_mb"] = allocated(device, lambda: next(report_epochs(config, examples, device.device)))  # noqa: B023
        rows.append(row)
    return rows


def allocated(device: Device, work: Callable[[], object]) -> float:
    """Megabytes at the most while the work is done."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(device.device)
    torch.cuda.reset_peak_memory_stats(device.device)
    work()
    return (torch.cuda.max_memory_allocated(device.device) - before) / 1e6


def profiled(bench: Bench) -> Table:
    """The operators of a step by the time that they take on the device, as parts of an unprofiled step's time.

    Where the parts add up to less than one, the card waits for the rest.
    """
    device, size, steps = bench.device(), bench.scale.profiled, 10
    trial = Steps(bench.config(size), bench.examples(size), device)
    trial.seconds(bench.scale.steps)
    step = trial.seconds(bench.scale.steps) / bench.scale.steps
    on_card = device.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_card else [])]
    with profile(activities=activities) as profiler:
        trial.seconds(steps)
    key = "self_device_time_total" if on_card else "self_cpu_time_total"  # microseconds
    # A kernel counts in the operator that starts it; its own row would count it twice.
    operators = [event for event in profiler.key_averages() if event.device_type == DeviceType.CPU]
    times = {event.key: getattr(event, key) / 1e6 / steps for event in operators}
    longest = sorted(times, key=lambda name: -times[name])[:15]
    rows: Table = [{"image_size": size, "operator": "all", "ms_a_step": 1e3 * sum(times.values())}]
    rows += [{"image_size": size, "operator": name, "ms_a_step": 1e3 * times[name]} for name in longest]
    return [{**row, "share": row["ms_a_step"] / 1e3 / step} for row in rows]


def machine(bench: Bench) -> dict[str, Any]:
    """Where it ran."""
    device = bench.device()
    found: dict[str, Any] = {"device": device.reason, "torch": torch.__version__, "cpus": os.cpu_count()}
    if device.device.type == "cuda":
        properties = torch.cuda.get_device_properties(device.device)
        found |= {"card": properties.name, "memory_gb": properties.total_memory / 1e9, "cuda": torch.version.cuda}
        found |= {"capability": [properties.major, properties.minor], "cudnn": torch.backends.cudnn.version()}
    return found


def text(value: Any) -> str:
    """A cell of a table."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(text, value))
    return "-" if value is None else str(value)


def show(title: str, rows: Table) -> None:
    """Prints a table."""
    cells = [[*rows[0]], *([text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    print(f"\n{title}")
    for line in cells:
        print("  " + "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    sys.stdout.flush()


def main() -> None:
    began, before = time.monotonic(), Machine.now()
    command = parser(__doc__, required=True, help="written anew after each part")
    command.add_argument("--device", default="cuda")
    command.add_argument("--quick", action="store_true", help="tiny, to see that it works: its figures mean nothing")
    arguments = command.parse_args()

    scale = QUICK if arguments.quick else FULL
    bench = Bench(arguments.device, scale, Products.now(), latest=began + LIMIT_SECONDS)
    try:
        result: dict[str, Any] = {"machine": machine(bench), "quick": arguments.quick, "parts": {}}
    except UserError as error:  # there is no such device
        sys.exit(str(error))
    parts: dict[str, Callable[[], Table]] = {
        "peak": lambda: peak(bench),
        "throughput": lambda: throughput(bench, peak_of(result)),
        "formats": lambda: formats(bench),
        "profile": lambda: profiled(bench),
        "memory": lambda: memory(bench),
        "packing": lambda: packing(bench),
        "compile": lambda: compiling(bench),
    }
    if bench.device().device.type != "cuda":  # whose memory alone is counted
        del parts["memory"]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # an empty one: code compiled in earlier runs would not count
        for name, part in parts.items():
            result["parts"][name] = done(name, part, bench.latest)
            result["seconds"] = time.monotonic() - began
            figures = [] if arguments.quick else figures_of(result["parts"])
            write_json(arguments.out, result_of("gpu", before, figures, result))
    failed = [name for name, part in result["parts"].items() if "error" in part]
    print(f"\n{arguments.out}: {len(parts) - len(failed)} of {len(parts)} parts in {result['seconds']:.0f} s")
    if failed:
        sys.exit(f"Failed: {', '.join(failed)}; the file holds the errors.")


def figures_of(parts: Mapping[str, Any]) -> list[Figure]:
    """What the part throughput says, with its goals."""
    figures = []
    for row in parts.get("throughput", {}).get("rows", []):
        size, n = row["image_size"], row["n"]
        what = f"one trial at {size} px on the card, images/s; ratio of ours over the report's loop"
        goal = Goal("ratio", ">=", 20) if size == 224 else None
        ours, theirs = statistics.median(row["ours"]), statistics.median(row["report_loop"])
        figures.append(Figure(what, ours, n, theirs, row["ratio_median"], goal))
        if row["share_of_peak"] is not None:
            goal = Goal("ours", ">=", 0.3) if size >= 128 else None
            figures.append(
                Figure(f"share of the card's bfloat16 peak at {size} px", row["share_of_peak"], n, goal=goal)
            )
    return figures


def peak_of(result: Mapping[str, Any]) -> float | None:
    """TFLOP/s, where they could be measured."""
    rows = result["parts"]["peak"].get("rows")
    return rows[0]["tflops"] if rows else None


def done(name: str, part: Callable[[], Table], latest: float) -> dict[str, Any]:
    """A part's table and seconds, or its error."""
    started = time.monotonic()
    try:
        if started > latest:
            raise TimeoutError(f"left out, as {LIMIT_SECONDS:.0f} s had passed")
        rows = part()
        show(name, rows)
        found: dict[str, Any] = {"rows": rows}
    except Exception as error:
        print(f"\n{name}: {type(error).__name__}: {error}", flush=True)
        found = {"error": traceback.format_exc()}
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return {**found, "seconds": time.monotonic() - started}


if __name__ == "__main__":
    main()
