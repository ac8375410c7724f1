"""The command line of a search: what was given, and what follows from it, the space and an earlier run."""

import argparse
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args
from urllib.parse import urlsplit

from search.cli import Parser, expanded, nameable
from spaces import Sampler, Scheduler
from trainable.config import AGE_GROUPS, MAX_FOLDS, MAX_IMAGE_SIZE, MIN_FOLDS, MIN_IMAGE_SIZE
from trainable.errors import UserError
from trainable.keeper import CACHE
from trainable.named import in_full

if TYPE_CHECKING:  # --help must not wait for Optuna
    from spaces.space import Space

EXAMPLES = """examples:
  python -m search.run                                      dropout on built-in digits: a first look
  python -m search.run --space dropout --data faces/data.csv --inputs Gender,Race --image-size 64 --name faces
  python -m search.run --space gridsearch --data photos/    a folder with a subfolder of images for each class
  python -m search.run --resume faces --trials 40           go on, and add trials

exit codes:
  0 done   1 failure   2 usage   3 done, but trials failed   130 Ctrl-C   143 SIGTERM; the last two can be resumed
"""

# The option --address of every command that needs Ray.
ADDRESS: dict[str, Any] = {
    "metavar": "HOST:PORT|auto|local",
    "help": "a Ray cluster to join, auto for this machine's (default: RAY_ADDRESS, or a Ray of its own)",
}
CONFIRM = "confirm"  # the space of a confirmation's runs, which no user can name, and their folder in the run's
TRACK = ("tensorboard", "mlflow", "wandb")  # the tools of --track
SAMPLERS: tuple[str, ...] = get_args(Sampler)
SCHEDULERS: tuple[str, ...] = get_args(Scheduler)
PRECISIONS = ("auto", "float32", "bfloat16")
COMPILE = ("auto", "on", "off")
LONGEST_NAME = 100  # letters of a run's
LEAST = 0.0001  # of a CPU or GPU: Ray counts in these


@dataclass(frozen=True)
class Options:
    """A search, fully said."""

    # What makes the run what it is: the same for as long as it lives.
    space: str
    data: str
    inputs: tuple[str, ...]
    target: str | None
    age_groups: str
    image_size: int
    split: str
    folds: int
    epochs: int
    repeats: int
    seed: int
    sampler: str
    scheduler: str
    audit: float | None  # the share of the trials to be stopped that run to their end
    precision: str
    compile: str
    # What may differ each time that it goes on.
    name: str
    out: Path
    cache: Path
    trials: int
    time_budget: float | None  # seconds
    max_concurrent: int | None
    cpus_per_trial: float
    gpus_per_trial: float | None
    address: str | None
    confirm: bool
    ensemble: bool
    test: str | None
    track: tuple[str, ...]
    storage: str  # where the run's folder is mirrored: a folder's absolute path or a URI; '' for nowhere
    command: str  # as it was given
    goes_on: str | None  # the command that goes on with the run, where none with --resume does

    @property
    def run(self) -> Path:
        """The run's folder."""
        return (self.out / self.name).absolute()

    @property
    def home(self) -> Path:
        """The folder of the search: the run's, or of the one that this run is to confirm."""
        return self.run.parent.parent if self.space == CONFIRM else self.run

    @property
    def title(self) -> str:
        """What the run is called beside others: photos, or photos/confirm/1."""
        return str(self.home.name / self.run.relative_to(self.home))


FIXED = (
    "space data inputs target age_groups image_size split folds epochs repeats seed sampler scheduler audit "
    "precision compile".split()
)  # fields of Options that never change in a run
KEPT = (
    "trials max_concurrent cpus_per_trial gpus_per_trial track storage".split()
)  # fields that a resumed run has unless given anew
DEFAULTS: dict[str, Any] = {
    "space": "dropout",
    "data": "digits",
    "inputs": (),
    "age_groups": ",".join(map(str, AGE_GROUPS)),
    "target": None,
    "split": "70/15/15",
    "folds": 0,
    "repeats": 1,
    "seed": 0,
    "audit": None,
    "precision": "auto",
    "compile": "auto",
    "out": Path("runs"),
    "cache": CACHE,
    "time_budget": None,
    "max_concurrent": None,
    "cpus_per_trial": 1.0,
    "gpus_per_trial": None,
    "address": None,
    "confirm": False,
    "ensemble": False,
    "test": None,
    "track": (),
    "storage": "",
    "command": "",
}


def parser() -> argparse.ArgumentParser:
    """The command line. An option that is not given is None, so that what was given can be told apart."""
    parser = Parser(
        prog="python -m search.run",
        description="Search the space of ConvNets for the best on your labelled images.",
        epilog=EXAMPLES,
    )
    shared = shared_options()
    add = parser.add_argument_group("what to search").add_argument
    add(
        "--space",
        type=nameable,
        metavar="NAME|FILE",
        help="a space's name, or a Python file that defines SPACE (default: dropout)",
    )
    add("--list-spaces", action="store_true", help="print the spaces with their parameters, and end")
    add("--data", type=nameable, metavar="CSV|FOLDER|digits", help="labelled images (default: digits)")
    add("--inputs", type=_names, metavar="COLUMN,...", help="metadata columns that the network reads (default: none)")
    add("--target", metavar="COLUMN", help="integers to learn and sum into classes, as Age (default: the classes)")
    add(
        "--age-groups",
        metavar="YEARS,...",
        help="UTKFace's age classes: their first ages, and the one after the last (default: 10,20,30,40,50,61)",
    )
    add(
        "--image-size",
        type=_size,
        metavar="PIXELS",
        help="side of the images, 28 to 256 (default: 28 for digits, else 64)",
    )
    add("--split", metavar="A/B/C", help="percent for train, validation and holdout (default: 70/15/15)")
    add(
        "--folds",
        type=_folds,
        metavar="K",
        help="2 to 20 networks a trial, each validated on its fold, instead of --split",
    )
    add = parser.add_argument_group("how to search").add_argument
    add("--sampler", choices=SAMPLERS, help="what proposes trials (default: the space's, mostly tpe)")
    add("--scheduler", choices=SCHEDULERS, help="what stops weak trials early (default: the space's, mostly asha)")
    add("--audit", type=_audit, metavar="SHARE", help="train this share of the stopped trials on, to see what it cost")
    add("--trials", type=_positive, metavar="N", help="trials in all (default: the space's)")
    add("--epochs", type=_positive, metavar="N", help="epochs of a trial that runs its course (default: the space's)")
    add("--repeats", type=_positive, metavar="N", help="each grid point or known start N times, the same N seeds each")
    add("--time-budget", **shared["time_budget"])
    add("--seed", type=_seed, metavar="N", help="of the split, the sampler and every trial (default: 0)")
    add = parser.add_argument_group("where").add_argument
    add("--name", type=_name, help="the run's name (default: made of space and data)")
    add("--out", **shared["out"])
    add("--resume", metavar="NAME", type=_name, help="go on with a run, with its own settings")
    add("--cache", **shared["cache"])
    add("--track", type=_tools, action="extend", metavar="TOOL,...", help=f"write for {', '.join(TRACK)}, or none")
    add = parser.add_argument_group("on what").add_argument
    for name in ON_WHAT:
        add(flag(name), **shared[name])
    add("--precision", choices=PRECISIONS, help="of products (default: auto)")
    add("--compile", choices=COMPILE, help="by torch.compile (default: auto, long trials on a GPU)")
    add = parser.add_argument_group("afterwards").add_argument
    add("--confirm", action="store_const", const=True, help="then confirm its best, in the last 40 %% of a time budget")
    add("--ensemble", action="store_const", const=True, help="then build the ensemble, within the time budget")
    add("--test", type=nameable, metavar="CSV|FOLDER", help="images to predict with the ensemble; implies --ensemble")
    parser.add_argument("--debug", **shared["debug"])
    return parser


ON_WHAT = ("max_concurrent", "cpus_per_trial", "gpus_per_trial", "address", "storage")


def shared_options() -> dict[str, dict[str, Any]]:
    """What defines the options that several commands train with, by field."""
    return {
        "out": {"type": expanded, "metavar": "DIR", "help": "the folder of runs (default: runs)"},
        "cache": {"type": expanded, "metavar": "DIR", "help": f"decoded images (default: the run's, or {CACHE})"},
        "time_budget": {
            "type": _seconds,
            "metavar": "TIME",
            "help": "a hard bound on the command, as in 90s, 30m or 2h",
        },
        "max_concurrent": {"type": _positive, "metavar": "N", "help": "trials at once (default: as many as fit)"},
        "cpus_per_trial": {"type": _amount, "metavar": "N", "help": "CPUs, and threads, of a trial (default: 1)"},
        "gpus_per_trial": {
            "type": _share,
            "metavar": "N",
            "help": "GPUs of a trial, as in 0.25 (default: 1 if there are any)",
        },
        "address": ADDRESS,
        "storage": {
            "type": _place,
            "metavar": "FOLDER|URI",
            "help": "where runs are mirrored, as in s3://BUCKET/FOLDER, so that another machine can go on; or none",
        },
        "debug": {"action": "store_true", "help": "show tracebacks of a user's mistakes too"},
    }


def resolve(given: Mapping[str, Any], space: "Space") -> Options:
    """The options in full: what was given, else the space's and the general defaults.

    Args:
        given: by field; None or absent where it was not given.
        space: the space that is named in it.
    Raises:
        UserError: where an option cannot be honoured.
    """
    chosen: dict[str, Any] = {field.name: given.get(field.name) for field in fields(Options)}
    for name, default in DEFAULTS.items():
        if chosen[name] is None:
            chosen[name] = default
    if chosen["repeats"] > 1:
        # A mean over the seeds that a scheduler let live would flatter the configuration.
        if chosen["scheduler"] not in (None, "none"):
            raise UserError(
                f"--repeats: {chosen['scheduler']} would stop some seeds of a configuration and leave the lucky ones; "
                "choose --scheduler none."
            )
        chosen["scheduler"] = "none"
    for name in ("epochs", "sampler", "scheduler"):
        if chosen[name] is None:
            chosen[name] = getattr(space, name)
    if chosen["audit"] is not None and chosen["scheduler"] == "none":
        raise UserError(
            "--audit: the scheduler none stops no trial, so there is nothing to audit; choose asha or median."
        )
    if chosen["image_size"] is None:
        chosen["image_size"] = image_size(chosen["data"])
    if chosen["sampler"] == "grid":
        if space.grid is None:
            raise UserError(f"--sampler: the space '{space.name}' has no grid; choose tpe, random, gp, cmaes or qmc.")
        cells = 1
        for values in space.grid.values():
            cells *= len(values)
        points = cells * chosen["repeats"]
        if chosen["trials"] is None:
            chosen["trials"] = points
        if chosen["trials"] > points:
            times = "" if chosen["repeats"] == 1 else f" of {chosen['repeats']} repeats"
            raise UserError(
                f"--trials: the grid of '{space.name}' has {points} points{times}, fewer than {chosen['trials']}."
            )
    elif chosen["repeats"] > 1 and not space.starts:
        raise UserError(f"--repeats: the space '{space.name}' has no known starts, and {chosen['sampler']} no grid.")
    if chosen["target"] in chosen["inputs"]:
        raise UserError(f"--target: the network cannot learn {chosen['target']} and read it by --inputs too.")
    if chosen["trials"] is None:
        chosen["trials"] = max(space.trials, len(space.starts) * chosen["repeats"])
    if chosen["name"] is None:
        chosen["name"] = default_name(chosen["space"], chosen["data"])
    chosen["confirm"] = bool(chosen["confirm"])
    chosen["ensemble"] = bool(chosen["ensemble"] or chosen["test"])
    chosen["track"] = tuple(dict.fromkeys(chosen["track"]))
    chosen["cache"] = Path(in_full("cache", chosen["cache"]))
    return Options(**chosen)


def image_size(data: str | None) -> int:
    """The side of the images where it is not said."""
    return 28 if data in (None, DEFAULTS["data"]) else 64


def default_name(space: str, data: str) -> str:
    """A run's name from its space and data: dropout-faces for --space dropout --data faces/data.csv."""
    path = Path(data)
    where = path.absolute().parent.name if path.suffix and not path.is_dir() else path.name
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{Path(space).stem}-{where}")[:LONGEST_NAME].strip("-.") or "run"


def fixed(options: Options) -> dict[str, Any]:
    """The part of the options that makes a run what it is, as JSON values; paths are found from any folder."""
    values = asdict(options)
    part = {name: list(values[name]) if isinstance(values[name], tuple) else values[name] for name in FIXED}
    if options.data != "digits":
        part["data"] = str(Path(options.data).absolute())
    if options.space.endswith(".py"):
        part["space"] = str(Path(options.space).absolute())
    return part


def kept(options: Options) -> dict[str, Any]:
    """The part that may change but is the default when the run goes on, as JSON values."""
    return {name: getattr(options, name) for name in KEPT}


def out_option(options: Options) -> str:
    """The --out that a next command needs, quoted, with a space before it; nothing for the default."""
    return "" if options.out == DEFAULTS["out"] else f" --out {shlex.quote(str(options.out))}"


def again(options: Options) -> str:
    """The command that goes on with the run, and does all that was asked; but for the time budget, which is over."""
    if options.goes_on is not None:
        return options.goes_on
    return f"python -m search.run --resume {options.name}{out_option(options)}{asked(options)}"


def asked(options: Options) -> str:
    """What a command is to do besides its search, and where, as options with a space before each."""
    said = " --confirm" if options.confirm else ""
    if options.test is not None:
        said += f" --test {shlex.quote(str(Path(options.test).absolute()))}"
    elif options.ensemble:
        said += " --ensemble"
    if options.address is not None:
        said += f" --address {shlex.quote(options.address)}"
    return said


def flag(field: str) -> str:
    """A field's option: --image-size for image_size."""
    return "--" + field.replace("_", "-")


def shown(value: Any) -> str:
    """A value as one would write it on the command line; 'none' of nothing."""
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value)) or None
    return "none" if value is None else str(value)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _tools(text: str) -> tuple[str, ...]:
    if text == "none":
        return ()
    for name in _names(text):
        if name not in TRACK:
            raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(TRACK)}")
    return _names(text)


def _place(text: str) -> str:
    if text == "none":
        return ""
    if not text.strip():
        raise argparse.ArgumentTypeError("'' is no place; give a folder, a URI, or none")
    if "://" not in text:
        if ":" in text.partition("/")[0]:
            raise argparse.ArgumentTypeError(
                f"'{text}' is neither a folder nor a URI, as s3://BUCKET/FOLDER; if it is a folder, write ./{text}"
            )
        try:
            return str(Path(text).expanduser().absolute())
        except RuntimeError:
            raise argparse.ArgumentTypeError(
                f"'{text}' is in a home folder that this machine does not know; give the folder in full"
            ) from None
    try:
        where = urlsplit(text).netloc
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is no URI ({error}); give one as s3://BUCKET/FOLDER") from None
    if "@" in where:
        raise argparse.ArgumentTypeError("a URI with credentials would be written into run.json; use the environment")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not an integer of at least 1")
    return int(text)


def several(text: str) -> int:
    """An option's integer of at least 2."""
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"'{text}' is not an integer of at least 2")
    return int(text)


def _folds(text: str) -> int:
    if not text.isdecimal() or not MIN_FOLDS <= int(text) <= MAX_FOLDS:
        raise argparse.ArgumentTypeError(f"'{text}' is not an integer in {MIN_FOLDS}..{MAX_FOLDS}")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"'{text}' is not an integer from 0 to 2^32 - 1")
    return int(text)


def _size(text: str) -> int:
    if not text.isdecimal() or not MIN_IMAGE_SIZE <= int(text) <= MAX_IMAGE_SIZE:
        raise argparse.ArgumentTypeError(f"'{text}' is not an integer in {MIN_IMAGE_SIZE}..{MAX_IMAGE_SIZE}")
    return int(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number") from None


def _amount(text: str) -> float:
    value = _number(text)
    if not LEAST <= value < 1e6 or (value > 1 and value % 1):
        raise argparse.ArgumentTypeError(f"'{text}' is not a fraction of one from {LEAST} on, or a whole number above")
    return value


def _audit(text: str) -> float:
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a share above 0 and up to 1, as in 0.1")
    return value


def _share(text: str) -> float:
    return 0.0 if _number(text) == 0 else _amount(text)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"([0-9.]+)\s*(s|m|h|)", text)
    value = _number(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a time above 0, as in 90s, 30m or 2h")
    return value


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", text) or len(text) > LONGEST_NAME:
        raise argparse.ArgumentTypeError(
            f"'{text}' is not a name of up to {LONGEST_NAME} letters, digits, '_', '-' and '.'"
        )
    return text


RANGES: dict[str, Callable[[str], Any]] = {  # what reads the options that are numbers
    **dict.fromkeys(("trials", "epochs", "repeats", "max_concurrent"), _positive),
    "folds": _folds,
    "image_size": _size,
    "seed": _seed,
    "audit": _audit,
    "cpus_per_trial": _amount,
    "gpus_per_trial": _share,
}


CHOICES = {"sampler": SAMPLERS, "scheduler": SCHEDULERS, "precision": PRECISIONS, "compile": COMPILE}


def check_ranges(arguments: Mapping[str, Any]) -> None:
    """Raises ValueError unless what a run's record has of options that are numbers or names is such as these take."""
    for name, names in CHOICES.items():
        if name in arguments and arguments[name] not in names:
            raise ValueError(f"{name} is {arguments[name]!r}")
    for name, read in RANGES.items():
        value = arguments.get(name)
        try:
            if value not in (None, DEFAULTS.get(name)):
                read(str(value))
        except argparse.ArgumentTypeError as error:
            raise ValueError(f"{name}: {error}") from None
