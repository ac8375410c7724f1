"""With a small source of its own, and a home folder of its own."""

import ctypes
import shutil
from pathlib import Path

import pytest

from trainable.compiled import NotCompiledError, library


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


def test_a_library_is_compiled_once(compiler: None, source: Path, home: Path) -> None:
    assert library(source).answer() == 42
    (made,) = (home / ".cache" / "convsearch" / "compiled").iterdir()
    written = made.stat().st_mtime_ns
    library.cache_clear()
    assert isinstance(library(source), ctypes.CDLL)
    assert made.stat().st_mtime_ns == written


def test_another_source_is_another_library(compiler: None, source: Path, home: Path) -> None:
    library(source)
    library.cache_clear()
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
    library.cache_clear()
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
