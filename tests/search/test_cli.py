"""Exit codes at the edge of every command."""

import errno
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from search import confirm, ensemble, report
from search.cli import AGAIN, Interrupted, command_text, exit_code, expanded, say, terminate
from trainable.errors import UserError


def test_a_commands_own_code_is_passed_on() -> None:
    assert exit_code(lambda: 3) == 3


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [(UserError("--x: no."), 2, "Error: --x: no.\n"), (KeyboardInterrupt(), 130, f"Interrupted. {AGAIN}\n")],
)
def test_errors_become_codes(error: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise error

    assert exit_code(command) == code
    assert capsys.readouterr().err == message


def test_a_command_is_told_as_it_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command_text("search.run", ["--name", "a b"]) == "python -m search.run --name 'a b'"
    monkeypatch.setattr("sys.argv", ["run.py", "--name", "c"])
    assert command_text("search.run", None) == "python -m search.run --name c"


def test_a_home_folder_is_found_where_the_shell_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert expanded("~/runs") == Path("/home/ada/runs")
    assert expanded("runs/~") == Path("runs/~")
    assert expanded("~nobody-of-that-name/runs") == Path("~nobody-of-that-name/runs")


@pytest.mark.parametrize("command", [confirm, ensemble, report])
def test_a_run_of_too_long_a_name_is_one_sentence(command: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    name = "a" * 300
    with pytest.raises(SystemExit) as ended:
        command.main([name])
    assert ended.value.code == 2
    said = f"RUN: '{name}' is too long for the name of a file or folder. See: python -m {command.__name__} --help"
    assert capsys.readouterr().err == f"Error: {said}\n"


@pytest.mark.parametrize(("terminal", "said"), [(True, ["one two", "three"]), (False, ["one two three"])])
def test_a_sentence_is_broken_between_words_in_a_terminal_alone(terminal: bool, said: list[str]) -> None:
    file = StringIO()
    console = Console(file=file, width=10, force_terminal=terminal, color_system=None)
    say(console, "one two three")
    assert [line.rstrip() for line in file.getvalue().splitlines()] == said


@pytest.mark.parametrize(("again", "said"), [(AGAIN, f" {AGAIN}"), ("", "")])
def test_what_has_nothing_to_go_on_with_does_not_promise_it(
    again: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert exit_code(command, again=again) == 130
    assert capsys.readouterr().err == f"Interrupted.{said}\n"
    with pytest.raises(SystemExit) as ended:
        terminate(signal.SIGTERM, None, again)
    assert ended.value.code == 143
    assert capsys.readouterr().err == f"Terminated.{said}\n"


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_command_that_ended_in_order_says_how_to_go_on(
    name: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> int:
        raise Interrupted(signal.Signals[name])

    assert exit_code(command) == code
    output = capsys.readouterr()
    assert (output.out, output.err) == (f"Interrupted by {name}. The same command goes on where it was.\n", "")


def test_what_a_file_system_says_of_a_file_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        return len((tmp_path / "gone").read_bytes())

    assert exit_code(command) == 1
    said = f"Error: No such file or directory: {tmp_path / 'gone'}. Mend it and give the same command again.\n"
    assert capsys.readouterr().err == said
    with pytest.raises(FileNotFoundError):
        exit_code(command, debug=True)


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError(errno.EINVAL, "Invalid argument")])
def test_other_errors_keep_their_traceback(error: Exception) -> None:
    def command() -> int:
        raise error

    with pytest.raises(type(error)):
        exit_code(command)


def test_a_closed_pipe_is_quiet() -> None:
    code = "from search.cli import exit_code; raise SystemExit(exit_code(lambda: print('x' * 10**6) or 0))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


HANGS = """
import threading
from pathlib import Path
from search.cli import process
from trainable import pixels
from trainable.table import Table

def reading(root, image):
    print("reading", flush=True)
    threading.Event().wait()  # as for a server that has gone

pixels._read = reading
table = Table("", Path(), ("a.png",), None, (), {})
process(lambda: pixels.prepare(table, 4, Path("cache"), progress=False))
"""


def test_a_sigterm_ends_a_command_whose_images_are_on_a_file_system_that_hangs() -> None:
    with subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"reading\n"
            process.terminate()
            assert process.communicate(timeout=60)[1].decode() == f"Terminated. {AGAIN}\n"
        finally:
            process.kill()
    assert process.returncode == 143


ENDS = """
import atexit, ctypes, sys
from search.cli import process
ctypes.CDLL(None).on_exit(1, None)  # C calls what is at address 1, as it takes a process down
atexit.register(print, "removed", end="")
def main():
    print("said ", end="")
    {}
process(main)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="calls glibc")
@pytest.mark.parametrize(
    ("end", "code", "told"),
    [
        ("return 5", 5, ""),
        ("sys.exit(6)", 6, ""),
        ("raise KeyboardInterrupt", 130, ""),
        ("1 / 0", 1, "ZeroDivisionError"),
    ],
)
def test_a_library_cannot_crash_a_command_at_its_end(end: str, code: int, told: str) -> None:
    ended = subprocess.run([sys.executable, "-c", ENDS.format(end)], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (code, "said removed")
    assert told in ended.stderr and bool(ended.stderr) == bool(told)


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("2>&-", 0, ""),
        (">&-", 0, ""),
        (
            ">/dev/full",
            1,
            "Error: No space left on device. Mend it and give the same command again.\n",
        ),
    ],
)
def test_output_that_cannot_be_written_is_told_where_that_can_be(place: str, code: int, said: str) -> None:
    program = "from search.cli import exit_code, process; process(lambda: exit_code(lambda: print(1) or 0))"
    command = f"'{sys.executable}' -c '{program}' {place}"
    ended = subprocess.run(["sh", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert (ended.returncode, ended.stderr) == (code, said)
