"""With a small source of its own, and a home folder of its own."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trainable import convolution, kernels_cpu, stem
from trainable.block_tail import kernels
from trainable.compiled import NotCompiledError, _found, call, compiler_version, library, missing

ROOT = Path(__file__).parents[2]


@pytest.fixture
def compiler() -> None:
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("there is no C++ compiler")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "answer.cpp"
    path.write_text('extern "C" int answer() { return 42; }\n')
    return path


@pytest.mark.parametrize("source", [kernels_cpu.SOURCE, stem.SOURCE, convolution.SOURCE], ids=lambda path: path.stem)
def test_what_is_there_compiles(compiler: None, source: Path) -> None:
    """Tests of its functions are skipped where it is not there."""
    assert missing(source) is None


def test_a_library_is_compiled_once(compiler: None, source: Path, home: Path) -> None:
    assert library(source).answer() == 42
    (made,) = (home / ".cache" / "convsearch" / "compiled").iterdir()
    written = made.stat().st_mtime_ns
    _found.cache_clear()
    assert isinstance(library(source), ctypes.CDLL)
    assert made.stat().st_mtime_ns == written


@pytest.mark.parametrize("left", [0, 100, 4096, -1])
def test_one_that_was_cut_short_is_compiled_anew(compiler: None, source: Path, home: Path, left: int) -> None:
    # The loader would be ended by a signal of it.
    library(source)
    (made,) = (home / ".cache" / "convsearch" / "compiled").iterdir()
    whole = made.read_bytes()
    _found.cache_clear()
    made.unlink()  # what is loaded stays as it is
    made.write_bytes(whole[:left])
    assert library(source).answer() == 42
    assert made.read_bytes()[:4] == b"\x7fELF" and len(made.read_bytes()) > 4096


def test_one_process_compiles_and_those_that_waited_take_that(compiler: None, source: Path, home: Path) -> None:
    calls = home.parent / "calls"
    named = home.parent / "named"
    named.write_text(f'#!/bin/sh\necho call >> "{calls}"\nsleep 1\nexec c++ "$@"\n')
    named.chmod(0o755)
    ask = f"print(library(Path({str(source)!r})).answer())"
    code = f"from pathlib import Path; from trainable.compiled import library; {ask}"
    environment = {**os.environ, "HOME": str(home), "CXX": str(named)}
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in "12"]
    assert [process.communicate(timeout=120)[0] for process in started] == ["42\n", "42\n"]
    assert calls.read_text() == "call\n"


def test_a_compiler_that_does_not_end(
    compiler: None, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainable.compiled.COMPILER_SECONDS", 0.5)
    named = tmp_path / "named"
    named.write_text("#!/bin/sh\nexec sleep 60\n")
    named.chmod(0o755)
    monkeypatch.setenv("CXX", str(named))
    assert missing(source) == f"{named} took more than 0.5 s"


def test_a_compiler_says_which_it_is(compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(r"\d+\.\d+", compiler_version())
    for none in ("/no/such/compiler", "c++ '-DANSWER=42"):
        monkeypatch.setenv("CXX", none)
        assert compiler_version() == ""


def test_another_source_is_another_library(compiler: None, source: Path, home: Path) -> None:
    library(source)
    _found.cache_clear()
    source.write_text('extern "C" int answer() { return 43; }\n')
    assert library(source).answer() == 43
    assert len(list((home / ".cache" / "convsearch" / "compiled").iterdir())) == 2


def test_without_a_compiler(source: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotCompiledError, match=r"^there is no C\+\+ compiler \(c\+\+, g\+\+, clang\+\+\)$"):
        library(source)


def test_a_compiler_that_fails(compiler: None, source: Path, home: Path) -> None:
    source.write_text("int answer( {\n")
    with pytest.raises(NotCompiledError, match="failed: .*error"):
        library(source)
    assert list((home / ".cache" / "convsearch" / "compiled").iterdir()) == []


def test_a_compiler_with_words_of_its_own(
    compiler: None, source: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.write_text('extern "C" int answer() { return ANSWER; }\n')
    monkeypatch.setenv("CXX", "env c++ -DANSWER=44")  # as with ccache
    assert library(source).answer() == 44
    _found.cache_clear()
    monkeypatch.setenv("CXX", "env c++ -DANSWER=45")
    assert library(source).answer() == 45  # what another one made is not taken


def test_a_compiler_in_a_folder_with_a_space(
    compiler: None, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my tools"
    folder.mkdir()
    (folder / "c++").symlink_to(next(filter(None, map(shutil.which, ("c++", "g++", "clang++")))))
    monkeypatch.setenv("CXX", str(folder / "c++"))
    assert library(source).answer() == 42


def test_a_compiler_that_cannot_be_read(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "c++ '-DANSWER=42")
    with pytest.raises(NotCompiledError, match="^ValueError: No closing quotation$"):
        library(source)


def test_a_compiler_that_is_not_there(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/no/such/compiler")
    with pytest.raises(NotCompiledError, match="FileNotFoundError: .*/no/such/compiler"):
        library(source)


def test_a_cache_that_cannot_be_written(source: Path, home: Path) -> None:
    home.write_text("a file where the folder should be\n")
    with pytest.raises(NotCompiledError, match="NotADirectoryError"):
        library(source)


def test_a_user_without_a_home_folder(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(NotCompiledError, match="^RuntimeError: Could not determine home directory.$"):
        library(source)


def test_a_switch(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSEARCH_COMPILED", "0")
    with pytest.raises(NotCompiledError, match="^CONVSEARCH_COMPILED is 0$"):
        library(source)


def test_tensors_are_given_by_their_values_and_a_zero_is_a_lack_of_memory(compiler: None, source: Path) -> None:
    source.write_text('extern "C" int positive(float* to, const float* from) { return (*to = *from) > 0; }\n')
    positive, to = library(source).positive, torch.zeros(1)
    call(positive, to, torch.ones(1))
    assert to == 1
    with pytest.raises(MemoryError, match="^no memory for positive$"):
        call(positive, to, -torch.ones(1))
    assert to == -1


SHORT = """
import resource
import torch
from torch import nn
from trainable import block_tail, convolution, stem

torch.set_num_threads(2)

def tail(channels):
    x = torch.empty(2, channels, 1, 1)
    return x, lambda: block_tail.kernels("cpu").statistics(block_tail.Tail(*x.shape, 1, True, None), x)

def of_weights(channels):
    x = torch.empty(2, channels, 4, 4)
    return x, lambda: convolution.weight_gradient(x, x, 1)

def first(side):
    x = torch.empty(2, 3, side, 3)
    return x, lambda: stem._sums("patch_products", x, 27)

kept, asked = {of}
asked()  # compiled, and with a thread that has its stack
kept, asked = {much}
used = 4096 * int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20, used + 100 * 2**20))
try:
    asked()
except MemoryError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks for the process's memory")
@pytest.mark.parametrize(
    ("there", "asked", "much", "function"),
    [
        # Besides 64 MiB for the result, two threads' sums of 64 MiB each.
        (lambda: kernels("cpu") is not None, "tail", 2**22, "statistics"),
        # 36 MiB for the result, two threads' sums of 64 MiB each.
        (lambda: convolution.ours("cpu", torch.float32), "of_weights", 2**10, "weight_gradient"),
        # Two threads' copies of 72 MiB, and more, of an image.
        (lambda: stem.ours("cpu", torch.float32), "first", 2**21, "patch_products"),
    ],
)
def test_where_there_is_no_memory_it_is_an_error_and_not_the_end_of_the_process(
    there: Callable[[], bool], asked: str, much: int, function: str
) -> None:
    if not there():
        pytest.skip("it is PyTorch's here")
    code = SHORT.format(of=f"{asked}(32)", much=f"{asked}({much})")
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=120, capture_output=True, text=True)
    assert done.stdout == f"no memory for {function}_float\n", done.stderr
