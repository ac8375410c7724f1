"""python -m search.report: what a search found, as one page that can be sent to somebody."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from search.cli import Parser, exit_code, expanded, nameable, printable, process
from search.options import shared_options
from trainable.errors import UserError
from trainable.files import write_text

FORMATS = ("html", "json", "csv", "md")
PAGE, TOGETHER = "report.html", "together.html"
PORT, REFRESH = 8270, 5  # seconds
EXAMPLES = """examples:
  python -m search.report faces                      runs/faces/report.html: one file, to open or to send
  python -m search.report faces faces-deep           two runs side by side
  python -m search.report faces --serve              the page of a running search, which keeps up with it
  python -m search.report faces --format csv         the leaderboard with errors, on stdout

exit codes:
  0 done   1 failure   2 usage   130 Ctrl-C (0 of --serve, which it ends)   143 SIGTERM
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
    add(
        "runs", nargs="*", type=nameable, metavar="RUN", help="a run's name or folder (default: the one worked on last)"
    )
    add("--format", choices=FORMATS, default="html", help="a page, or its facts for programs (default: html)")
    add(
        "--output",
        type=expanded,
        metavar="FILE",
        help=f"where to write (default: html to RUN/{PAGE}, of several to {TOGETHER} in the first; others to stdout)",
    )
    add("--serve", action="store_true", help="serve the page on this machine alone, and keep it up to date")
    add("--port", type=int, metavar="N", help=f"for --serve; 0 takes any that is free (default: {PORT})")
    add("--data", metavar="CSV|FOLDER", help="where the page's pictures are (default: the run's data, if yours)")
    add("--out", **shared["out"])
    add("--debug", **shared["debug"])
    return parser


def _command(arguments: dict[str, Any]) -> int:
    import optuna

    from results.members import find_run
    from trainable import named

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if arguments["serve"] and (arguments["output"] is not None or arguments["format"] != "html"):
        raise UserError("--serve shows a page and writes none; leave --output and --format out.")
    if arguments["port"] is not None and not arguments["serve"]:
        raise UserError("--port: nothing but --serve needs one; add it, or leave --port out.")
    data = arguments["data"]
    if data is not None and arguments["format"] != "html":
        raise UserError("--data: nothing but the page has pictures; leave it or --format out.")
    if data is not None and not os.path.exists(data):
        raise UserError(f"--data: no file or folder is called '{data}'.")
    named.note(arguments)
    out = arguments["out"] or Path("runs")
    found = {run.resolve(): run for run in (find_run(name, out) for name in arguments["runs"] or [None])}
    runs = list(found.values())  # one that is named twice is shown once
    if arguments["serve"]:
        from search.served import serve

        return serve(runs, PORT if arguments["port"] is None else arguments["port"], REFRESH, data)
    content = written(runs, arguments["format"], data)
    if arguments["format"] != "html" and arguments["output"] is None:
        sys.stdout.write(printable(content) if sys.stdout.isatty() else content)
        return 0
    # The page of several is not the first one's own.
    path = arguments["output"] or runs[0] / (PAGE if len(runs) == 1 else TOGETHER)
    try:
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise UserError(f"--output: {path} {'is a folder' if path.is_dir() else 'is in no folder that exists'}.")
        write_text(path, content)
    except OSError as error:
        raise UserError(f"--output: {path} cannot be written ({error.strerror}); choose another place.") from None
    print(f"Wrote {path}")
    return 0


def written(runs: Sequence[Path], form: str, data: str | None) -> str:
    """The report of runs in one of FORMATS, with what `data` names as the page's pictures. Raises UserError where one
    cannot be read."""
    from results import exports
    from results.page import page
    from search.findings import following, read_all

    found = read_all(runs)
    then = [following(facts) for facts in found]
    match form:
        case "json":
            return json.dumps(exports.as_json(found, then), indent=2, allow_nan=False) + "\n"
        case "csv":
            return exports.as_csv(found)
        case "md":
            return exports.as_markdown(found, then)
        case _:
            return page(found, then, data=data)


if __name__ == "__main__":
    process(main, again="")
