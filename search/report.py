"""python -m search.report: what a search found, as one page that can be sent to somebody."""

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.cli import Parser, exit_code, terminate
from search.options import shared_options
from trainable.errors import UserError
from trainable.files import write_text

if TYPE_CHECKING:  # --help must not wait for pandas and Optuna
    from results.facts import Facts

FORMATS = ("html", "json", "csv", "md")
PAGE = "report.html"
PORT, REFRESH = 8270, 5  # seconds
EXAMPLES = """examples:
  python -m search.report faces                      runs/faces/report.html: one file, to open or to send
  python -m search.report faces faces-deep           two runs side by side
  python -m search.report faces --serve              the page of a running search, which keeps up with it
  python -m search.report faces --format csv         the leaderboard with errors, on stdout

exit codes:
  0 done   1 failure   2 usage   143 SIGTERM
"""


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code."""
    arguments = vars(parser().parse_args(argv))
    return exit_code(lambda: _command(arguments), arguments["debug"], again="")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(
        prog="python -m search.report",
        description="Show what one or more searches found, finished or not.",
        epilog=EXAMPLES,
    )
    shared, add = shared_options(), parser.add_argument
    add("runs", nargs="*", metavar="RUN", help="a run's name or folder (default: the one worked on last)")
    add("--format", choices=FORMATS, default="html", help="a page, or its facts for programs (default: html)")
    add("--output", type=Path, metavar="FILE", help=f"where to write (default: html to RUN/{PAGE}, others to stdout)")
    add("--serve", action="store_true", help="serve the page on this machine alone, and keep it up to date")
    add("--port", type=int, metavar="N", help=f"for --serve; 0 takes any that is free (default: {PORT})")
    add("--out", **shared["out"])
    add("--debug", **shared["debug"])
    return parser


def _command(arguments: dict[str, Any]) -> int:
    import optuna

    from results.members import find_run

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if arguments["serve"] and (arguments["output"] is not None or arguments["format"] != "html"):
        raise UserError("--serve shows a page and writes none; leave --output and --format out.")
    if arguments["port"] is not None and not arguments["serve"]:
        raise UserError("--port: nothing but --serve needs one; add it, or leave --port out.")
    out = arguments["out"] or Path("runs")
    found = {run.resolve(): run for run in (find_run(name, out) for name in arguments["runs"] or [None])}
    runs = list(found.values())  # one that is named twice is shown once
    if arguments["serve"]:
        from search.served import serve

        return serve(runs, PORT if arguments["port"] is None else arguments["port"], REFRESH)
    content = written(read_all(runs), arguments["format"])
    if arguments["format"] != "html" and arguments["output"] is None:
        sys.stdout.write(content)
        return 0
    path = arguments["output"] or runs[0] / PAGE
    try:
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise UserError(f"--output: {path} {'is a folder' if path.is_dir() else 'is in no folder that exists'}.")
        write_text(path, content)
    except OSError as error:
        raise UserError(f"--output: {path} cannot be written ({error.strerror}); choose another place.") from None
    print(f"Wrote {path}")
    return 0


def read(run: Path) -> "Facts":
    """All that there is to say of a run, which may be under way.

    Raises:
        UserError: where it cannot be read, or is a part of another's confirmation.
    """
    from results.facts import gather
    from search.record import check_search, stored
    from search.study import watched_trials

    record = stored(run)
    assert record is not None  # `find_run` has seen its run.json
    check_search(record, run, "RUN")
    return gather(run, record, watched_trials(run))


def read_all(runs: Sequence[Path]) -> "list[Facts]":
    """What there is to say of several runs; those of one name are told apart by the folders that they are in.

    Raises:
        UserError: as `read` does.
    """
    found = [read(run) for run in runs]
    names = [facts.name for facts in found]
    return [
        replace(facts, name=f"{facts.run.resolve().parent.name}/{facts.name}") if names.count(facts.name) > 1 else facts
        for facts in found
    ]


def written(runs: "Sequence[Facts]", form: str) -> str:
    """The report in one of FORMATS."""
    from results import exports
    from results.page import page

    match form:
        case "json":
            return json.dumps(exports.as_json(runs), indent=2, allow_nan=False) + "\n"
        case "csv":
            return exports.as_csv(runs)
        case "md":
            return exports.as_markdown(runs)
        case _:
            return page(runs, [following(facts) for facts in runs])


def following(facts: "Facts") -> tuple[str, str]:
    """What is useful next, in words and as a command."""
    run = shlex.quote(str(facts.run))
    if not facts.ended:
        out = "" if facts.run.parent == Path("runs") else f" --out {shlex.quote(str(facts.run.parent))}"
        return (
            "If it has stopped, go on with:",
            f"python -m search.run --resume {shlex.quote(facts.run.resolve().name)}{out}",
        )
    if not facts.compared:
        arguments = facts.record["arguments"]
        search = f"--space {shlex.quote(arguments['space'])} --data {shlex.quote(arguments['data'])}"
        return "Mend that, and search again under another name:", f"python -m search.run {search} --name NAME"
    if facts.confirmation is None and not facts.repeated and facts.compared > 1:
        return "Next, train the best again with fresh seeds:", f"python -m search.confirm {run}"
    if facts.ensemble is None:
        return "Next, combine the best:", f"python -m search.ensemble {run}"
    return "Make the ensemble again, to check it:", f"python -m search.ensemble --verify {run}/ensemble.json"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, partial(terminate, again=""))
    sys.exit(main())
