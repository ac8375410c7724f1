"""Spaces found by name, or in a user's file, and loaded."""

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import spaces
from spaces.check import check
from spaces.space import Given, Space, said
from trainable.errors import UserError, nearest

NOTHING = Given()
DEFINES = ("SPACE", "space")  # a module that defines one of them is a space; what only helps the spaces does not


def names() -> list[str]:
    """The names of the spaces that come with the package: its modules that define one."""
    found = [module.name for module in pkgutil.iter_modules(spaces.__path__)]
    return sorted(name for name in found if any(hasattr(_of_package(name), part) for part in DEFINES))


def load(name: str, given: Given = NOTHING) -> Space:
    """The space called `name`, or the one in the Python file at the path `name`: its SPACE, or what its function
    space(given) makes of what is given.

    Raises:
        UserError: naming the file, and the field or parameter with its value where the space cannot be searched.
    """
    if name.endswith(".py"):
        module = _module_of(Path(name))
    elif name in names():
        module = _of_package(name)
    else:
        raise UserError(f"--space: no space is called '{name}'{nearest(name, names()) or '.'} See --list-spaces.")
    space = getattr(module, "SPACE", None)
    if space is None and hasattr(module, "space"):
        try:
            space = module.space(given)
        except UserError:
            raise
        except (Exception, SystemExit) as error:  # whatever a user's function may raise
            raise UserError(f"{name}: space() fails: {said(error)}") from error
    if not isinstance(space, Space):
        raise UserError(f"{name} defines no SPACE = Space(...), and no function space(given) that gives one.")
    check(space, given, name)
    return space


def _of_package(name: str) -> ModuleType:
    return importlib.import_module(f"spaces.{name}")


def _module_of(path: Path) -> ModuleType:
    if not path.is_file():
        what = "is no file; name a Python file that defines SPACE" if path.exists() else "does not exist"
        raise UserError(f"--space: {path} {what}.")
    if any((folder / "run.json").exists() for folder in (*path.absolute().parents, *path.resolve().parents)):
        raise UserError(
            f"--space: {path} lies in the folder of a run, which somebody else may have made, so its code is not run; "
            "look at it, and keep it elsewhere."
        )
    name = f"_space_{path.stem}"  # so that a file called random.py takes no module's place
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where a dataclass looks up the annotations of its own module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's file may raise
        del sys.modules[name]
        if isinstance(error, SyntaxError):
            line = "" if error.lineno is None else f" line {error.lineno}"  # none of null bytes
            raise UserError(f"{path}{line}: {error.msg}.") from None
        raise UserError(f"{path} cannot be loaded: {said(error)}") from error
    return module
