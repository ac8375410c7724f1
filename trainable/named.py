"""What this user has named in commands on this machine.

A run's folder may be somebody else's. Whose code is run and where files are written for it is believed of its record
only where this user has named the same before; that is noted outside of all runs.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainable.errors import UserError
from trainable.files import make_folder, write_bytes
from trainable.keeper import CACHE

HOW = {"space": "--space FILE", "storage": "--storage FOLDER|URI (or none)", "cache": "--cache DIR"}


def note(given: Mapping[str, Any]) -> None:
    """Notes what a command line names. Where that cannot be written, a later command has to name it again.

    Args:
        given: by option; None or absent where it was not given.
    """
    for option in HOW:
        value = given.get(option)
        whole = None if value is None else _in_full(option, value)
        if whole is not None and not _is_noted(option, whole):
            with suppress(OSError, RuntimeError):  # no home, or one to be read alone
                path = _note(option, whole)
                make_folder(path.parent)
                write_bytes(path, _bytes(option, whole))


def chosen(run: Path, record: Mapping[str, Any], given: Mapping[str, Any], *options: str) -> dict[str, Any]:
    """What is given of `options`, by name; where nothing is, what a run has.

    Args:
        run: its folder.
        record: its run.json.
        given: by option; None or absent where it was not given.
        options: of "space", "storage" and "cache".
    Raises:
        UserError: where the run has what this user has not named on this machine.
    """
    said = {**record["arguments"], "cache": record["data"]["cache"]}
    own = {option: said[option] for option in options if given.get(option) is None}
    whole = {option: _in_full(option, value) for option, value in own.items()}
    unknown = {option: value for option, value in whole.items() if value is not None and not _is_noted(option, value)}
    if unknown:
        listed = " and ".join(f"--{option} {value}" for option, value in unknown.items())
        raise UserError(
            f"{run / 'run.json'} has {listed}, which no command of yours on this machine has named yet. A run may come "
            f"from anybody, so what it runs and where it writes is yours to say: give "
            f"{' and '.join(HOW[option] for option in unknown)}."
        )
    return {option: own.get(option, given.get(option)) for option in options}


def _in_full(option: str, value: Any) -> str | None:
    """The same in any folder; None for what needs no naming, as it is this program's own, or nothing."""
    if option == "storage":
        return value or None
    if option == "space":
        return str(Path(value).absolute()) if value.endswith(".py") else None
    with suppress(RuntimeError):  # no home
        return None if Path(value).expanduser() == CACHE.expanduser() else str(Path(value).expanduser().absolute())
    return str(Path(value).absolute())


def _is_noted(option: str, whole: str) -> bool:
    try:
        return _note(option, whole).exists()
    except (OSError, RuntimeError):
        return False


def _note(option: str, whole: str) -> Path:
    """The file that says that something was named: one for each, so that no two commands write the same.

    Raises: RuntimeError where this user has no home.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        state = Path("~/.local/state").expanduser()
    return state / "convsearch" / "named" / hashlib.sha256(_bytes(option, whole)).hexdigest()


def _bytes(option: str, whole: str) -> bytes:
    return f"--{option} {whole}\n".encode(errors="surrogatepass")  # a JSON text may have any half of a pair
