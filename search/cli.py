"""What the commands share at their edge: a user's mistake is one sentence on stderr and exit code 2."""

import argparse
import atexit
import errno
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from trainable.errors import UserError, storage_fault, with_file

if TYPE_CHECKING:  # --help must not wait for it
    from rich.console import Console

FAILED, USAGE, FAILED_TRIALS, INTERRUPTED, TERMINATED = 1, 2, 3, 130, 143
# All but the ends of lines and tabs; and what turns the direction of text.
CONTROL = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069]")
AGAIN = "The same command goes on where it was."


class Parser(argparse.ArgumentParser):
    """A command line whose epilog keeps its lines, and whose mistakes are one sentence: usage, of many lines, is for
    --help."""

    def __init__(self, prog: str, description: str, epilog: str) -> None:
        kept = argparse.RawDescriptionHelpFormatter
        super().__init__(prog=prog, description=description, epilog=epilog, formatter_class=kept)

    def error(self, message: str) -> NoReturn:
        """Says what is wrong and ends with code 2."""
        self.exit(USAGE, printable(f"Error: {message.removeprefix('argument ')}. See: {self.prog} --help\n"))


def printable(text: str) -> str:
    """The text with its control characters spelt out: a terminal obeys those, and names of files and classes are
    anybody's."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def command_text(module: str, argv: Sequence[str] | None) -> str:
    """A command as it was given, fit to be pasted. Args: as those of its main."""
    return shlex.join(["python", "-m", module, *(sys.argv[1:] if argv is None else argv)])


def nameable(text: str) -> str:
    """An option's file or folder, which need not exist; one with too long a name is refused with the option."""
    try:
        os.lstat(text)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise argparse.ArgumentTypeError(f"'{text}' is too long for the name of a file or folder") from None
    return text


def expanded(text: str) -> Path:
    """An option's path, its ~ a home folder where the shell has left that to us, as in --out=~/runs."""
    return Path(nameable(os.path.expanduser(text)))  # leaves an unknown user's as it is, where Path's own raises


def say(console: "Console", text: str, style: str = "") -> None:
    """Prints a sentence: in a terminal broken between words, elsewhere one line, whatever its length. What is to be
    copied, as a command or a path at its end, is better printed with soft_wrap."""
    console.print(text, style=style, soft_wrap=not console.is_terminal)


class Interrupted(Exception):
    """A signal ended a command in order, and the same command goes on where it was."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(f"Interrupted by {number.name}. {AGAIN}")
        self.code = INTERRUPTED if number == signal.SIGINT else TERMINATED


def exit_code(command: Callable[[], int], debug: bool = False, again: str = AGAIN) -> int:
    """Runs a command and returns the process's exit code; `debug` shows the traceback of a user's mistake too.

    `again` says after Ctrl-C what the same command would do; '' where it has nothing to go on with.
    2 for a UserError, 130 for Ctrl-C, 130 or 143 for Interrupted, 1 for a fault of the disk or of a file, or where the
    reader of stdout has gone (`| head`); else the command's own.
    """
    try:
        code = command()
        if sys.stdout is not None:  # as where the command was given with >&-
            sys.stdout.flush()  # here, where a closed pipe can still be caught
        return code
    except BrokenPipeError:
        # Python flushes stdout once more at exit: give it a place that takes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except UserError as error:
        if debug:
            raise
        print(printable(f"Error: {error}"), file=sys.stderr)
        return USAGE
    except OSError as error:
        fault = storage_fault(error) or (with_file(error) if error.filename else None)
        if fault is None or debug:
            raise
        print(printable(f"Error: {fault}. Mend it and give the same command again."), file=sys.stderr)
        return FAILED
    except Interrupted as error:
        print(error)
        return error.code
    except KeyboardInterrupt:
        print(f"Interrupted. {again}".rstrip(), file=sys.stderr)
        return INTERRUPTED


def process(main: Callable[[], int], again: str = AGAIN) -> NoReturn:
    """Runs a command's main, which is all that this process is for. A SIGTERM ends it in order, while data is read or
    Ray starts, too, where it is not handled otherwise.

    Args:
        again: as for `exit_code`.
    """
    signal.signal(signal.SIGTERM, partial(terminate, again=again))
    code = FAILED
    try:
        code = main()
    except SystemExit as ended:  # of argparse, and of `terminate`
        code = int(ended.code or 0)
    except KeyboardInterrupt:  # before there was anything to interrupt
        code = INTERRUPTED
    except BaseException:
        traceback.print_exc()
    leave(code)


def leave(code: int) -> NoReturn:
    """Ends the process with a code, once what Python has registered for its end is done.

    C++ is not taken down: Ray and gRPC leave threads that use it, and the process would crash now and then, its work
    done. Nor is Arrow, which waits for every call to a store: for one that never answers that is many minutes.
    """
    try:
        if finalize := getattr(sys.modules.get("pyarrow.fs"), "ensure_s3_finalized", None):
            atexit.unregister(finalize)
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except OSError:  # of the command's own words `exit_code` has told
        code = code or FAILED
    finally:
        os._exit(code)


def terminate(number: int, frame: object, again: str = AGAIN) -> NoReturn:
    """A handler of SIGTERM for where nothing else has one: it ends the command in order, and says how to go on."""
    print(f"Terminated. {again}".rstrip(), file=sys.stderr)
    sys.exit(TERMINATED)
