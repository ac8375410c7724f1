"""The rooms of the house: dependencies point one way, and what need not wait for torch and Ray does not."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "trainable": {"trainable"},
    "spaces": {"spaces", "trainable"},
    "results": {"results", "trainable"},
    "search": {"search", "results", "spaces", "trainable"},
}
DOORS = ["away", "tune"]  # to Ray, of trainable
MODULES = sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))
WITHOUT_RAY = sorted(
    f"{path.parent.name}.{path.stem}"
    for path in MODULES
    if path.parent.name != "search" and path.stem not in ("__init__", *DOORS)
)


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports anywhere, in functions and for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None, f"{path} imports relatively"
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_dependencies_point_one_way(path: Path) -> None:
    room = path.parent.name
    assert imported(path) & ({*MAY_IMPORT, "tests", "benchmarks"}) <= MAY_IMPORT[room]


def test_ray_has_its_doors_alone_below_the_search() -> None:
    assert [path.stem for path in MODULES if path.parent.name != "search" and "ray" in imported(path)] == DOORS


WRITES = {  # of pathlib, os and shutil, but for those whose names other things have, too
    *("mkdir", "makedirs", "unlink", "rmdir", "rmtree", "truncate", "touch", "symlink_to", "hardlink_to"),
    *("write_text", "write_bytes", "copyfile", "copytree", "move", "NamedTemporaryFile"),
}
TO_WRITE = re.compile("[rwaxbt+]*[wax+][rwaxbt+]*")  # modes of open
OWN_WRITES = {  # beside files.py, and why nothing is lost with them
    "authentication": "Ray's token and the folder of its sockets, which are no run's",
    "away": "a worker's own copy on another node, made anew where the worker has died",
    "digits": "below a folder to which files.py gives its name when all is in it",
    "fetch": "trials of a copy that its study does not know of, and the folder that a copy came in",
    "record": "the lock: the system knows who holds it, the file only tells",
    "step_log": "what the driver has heard of, which no search goes on from",
}


def writes(path: Path) -> set[str]:
    """The calls by which a module writes into the file system itself."""
    found = set()
    tree = ast.parse(path.read_text())
    bare = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in ("os", "shutil", "tempfile")
        for name in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            module, _, name = call.rpartition(".")
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            constants = [part.value for part in given if isinstance(part, ast.Constant)]
            opened = name == "open" and any(TO_WRITE.fullmatch(str(value)) for value in constants)
            written = name in WRITES and (name in bare if module == "" else module != "files")
            if opened or written or call in ("os.replace", "os.rename", "os.remove"):
                found.add(call)
    return found


def test_what_must_survive_is_written_by_one_module() -> None:
    assert {path.stem for path in MODULES if writes(path)} == {"files", *OWN_WRITES}


def modules_after(code: str, *arguments: str) -> set[str]:
    """The top-level modules that a fresh Python has loaded after `code`."""
    report = "import sys; print(*{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", f"import atexit\natexit.register(lambda: exec({report!r}))\n{code}", *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return set(done.stderr.split())


def test_training_spaces_and_results_need_no_ray() -> None:
    loaded = modules_after(f"import {', '.join(WITHOUT_RAY)}")
    assert {"torch", "trainable", "spaces", "results"} <= loaded
    assert "ray" not in loaded


@pytest.mark.parametrize("command", ["run", "ensemble", "confirm"])
def test_help_waits_for_no_library(command: str) -> None:
    loaded = modules_after(f"from search.{command} import main; main()", "--help")
    assert "argparse" in loaded
    assert not {"torch", "ray", "optuna", "numpy", "pandas", "rich"} & loaded
