"""Who can reach Ray can run code: a Ray of this machine gets a token and a folder that are its user's alone, and a
cluster that asks for its token gets it.
"""

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from ray._common.utils import get_default_system_temp_dir
from ray._private.authentication.authentication_token_generator import generate_new_authentication_token
from ray._private.authentication.authentication_token_setup import AuthenticationTokenLoader, Config
from ray.exceptions import AuthenticationError

from search.head import cluster_id
from trainable.errors import UserError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
FILE = Path("~/.ray/auth_token")
PRIVATE = "/convsearch-"  # in the paths of all that a Ray has of which a search is the owner
LONGEST = 43  # bytes of the folder's path: those of the sockets in it have 64 more, and may have 107


class Refused(Exception):
    """A cluster asks for a token that is not here; the text is a sentence that says where, and what to do."""


def make_token() -> None:
    """Makes this user's token where Ray would look for it, unless there is one or Ray shall use another or none.

    Ray would make it readable for all, and two that start at once would overwrite each other's: whoever comes second
    here takes the first one's.

    Raises:
        UserError: where it cannot be written, or there is an empty one.
    """
    if os.environ.get(MODE, "").lower() == "disabled" or os.environ.get(TOKEN) or os.environ.get(TOKEN_PATH):
        return
    path = FILE.expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent) as file:  # of mode 0600
            file.write(generate_new_authentication_token())
            file.flush()
            os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(file.name, path)
        if not path.stat().st_size:
            raise UserError(f"{path}, the token that keeps others out of Ray, is empty: delete it.")
        path.chmod(0o600)
    except OSError as error:
        raise UserError(
            f"{path}, the token that keeps others out of Ray, cannot be written ({error.strerror}): mend it, or set "
            f"{TOKEN}."
        ) from error


def private_folder() -> Path:
    """A folder for Ray's sockets, code and logs, where Ray's own would be; made where it is missing.

    Ray lets everybody on the machine write into its own: another's socket in the place of Ray's would be obeyed.

    Raises:
        UserError: where it is not this user's alone, or cannot be.
    """
    home = Path(f"{get_default_system_temp_dir()}{PRIVATE}{os.getuid()}")
    try:
        home.mkdir(mode=0o700, exist_ok=True)
        found = home.lstat()
    except OSError as error:
        raise UserError(f"{home} cannot be made ({error.strerror}); set RAY_TMPDIR to another place.") from error
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077:
        raise UserError(f"{home} is open to others than this user: remove it, or set RAY_TMPDIR to another place.")
    folder = home / "ray"  # which Ray opens to all
    if len(os.fsencode(folder)) > LONGEST:
        raise UserError(f"The name of {folder} is too long for Ray's sockets: set RAY_TMPDIR to a shorter one.")
    return folder


def authenticate(address: str) -> tuple[bytes, bool]:
    """Has this process use the token if, and only if, the cluster asks for one. Returns the cluster's id, as Ray
    encodes it, and whether it asks.

    Ray leaves that to the environment: without a token it would try for 20 s, where nobody answers for a quarter of an
    hour, and with one where none is asked for no actor would live.

    Args:
        address: the host and port of the cluster's head.
    Raises:
        ConnectionError: where nobody answers there.
        Refused: where the cluster asks for a token that there is not here.
    """
    if os.environ.get(MODE, "").lower() == "token":
        _set_mode(None)
    cluster = cluster_id(address)
    if cluster is not None:
        return cluster, False
    asks = f"the Ray cluster at {address} asks for a token"
    if os.environ.get(MODE) is not None:
        raise Refused(f"{asks}, and {MODE} is {os.environ[MODE]}: unset it.")
    _set_mode("token")
    kept = "ray get-auth-token prints it on the cluster's head"
    loader = AuthenticationTokenLoader.instance()
    loader.reset_cache()
    try:
        known = loader.has_token()
    except AuthenticationError:
        known = False  # the file that TOKEN_PATH names is missing or empty
    if not known:
        raise Refused(f"{asks}, and {_place()} has none: put it there ({kept}).")
    cluster = cluster_id(address)
    if cluster is None:
        raise Refused(f"{asks}, and the one in {_place()} is another: put the cluster's there ({kept}).")
    return cluster, True


def _set_mode(mode: str | None) -> None:
    """Has Ray in this process use the token, or not: as Ray's own _enable_token_auth does, and back."""
    if mode is None:
        os.environ.pop(MODE, None)
    else:
        os.environ[MODE] = mode
    Config.initialize("")


def _place() -> str:
    """Where Ray takes its token from."""
    if os.environ.get(TOKEN):
        return TOKEN
    return os.environ.get(TOKEN_PATH) or str(FILE)
