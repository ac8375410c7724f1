"""What this user has named in commands on this machine.

A run's folder may be somebody else's. Whose code is run, whose images are shown and where files are written for it is
believed of its record only where this user has named the same before; that is noted outside of all runs.
"""

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from trainable.config import DIGITS
from trainable.errors import UserError
from trainable.files import make_folder, write_bytes
from trainable.keeper import CACHE

HOW = {
    "space": "--space FILE",
    "data": "--data CSV|FOLDER",
    "storage": "--storage FOLDER|URI (or none)",
    "cache": "--cache DIR",
}


def note(given: Mapping[str, Any]) -> None:
    """Notes what a command line names. Where that cannot be written, a later command has to name it again.

    Args:
        given: by option; None or absent where it was not given.
    Raises:
        UserError: as `in_full` does.
    """
    for option in HOW:
        if given.get(option) is None:
            continue
        whole = in_full(option, given[option])
        if not _is_known(option, whole):
            with suppress(OSError, RuntimeError):  # no home, or one to be read alone
                path = _note(option, whole)
                make_folder(path.parent)
                write_bytes(path, _bytes(option, whole))


def chosen(run: Path, record: Mapping[str, Any], given: Mapping[str, Any], *options: str) -> dict[str, str]:
    """What is given of `options`, by name and in full; where nothing is, what a run has.

    Args:
        run: its folder.
        record: its run.json.
        given: by option; None or absent where it was not given.
        options: of HOW.
    Raises:
        UserError: where the run has what this user has not named on this machine; or as `in_full` does.
    """
    said = {**record["arguments"], "cache": record["data"]["cache"]}
    own = [option for option in options if given.get(option) is None]
    whole = {option: in_full(option, said[option] if option in own else given[option]) for option in options}
    unknown = {option: whole[option] for option in own if not _is_known(option, whole[option])}
    if unknown:
        listed = " and ".join(f"--{option} {value}" for option, value in unknown.items())
        raise UserError(
            f"{run / 'run.json'} has {listed}, which no command of yours on this machine has named yet. A run may come "
            f"from anybody, so what it runs, what it shows and where it writes is yours to say: give "
            f"{' and '.join(HOW[option] for option in unknown)}."
        )
    return whole


def in_full(option: str, value: Any) -> str:
    """What an option of HOW names, such that it names the same from any folder.

    Raises:
        UserError: for a cache in a home folder that nobody knows.
    """
    if option != "cache":  # a storage is in full from the command line on
        is_path = option == "space" and value.endswith(".py") or option == "data" and value != DIGITS
        return str(Path(value).absolute()) if is_path else str(value)
    try:
        return str(Path(value).expanduser().absolute())
    except RuntimeError:
        raise UserError(
            f"--cache: {value} is in a home folder that this machine does not know; give --cache DIR in full."
        ) from None


def _is_known(option: str, whole: str) -> bool:
    """Whether this user has named it, or need not, as it is this program's own, or nothing."""
    own = {
        "space": not whole.endswith(".py"),
        "data": whole == DIGITS,
        "storage": not whole,
        "cache": whole == os.path.expanduser(CACHE),
    }
    try:
        return own[option] or _note(option, whole).exists()
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
