"""The one exception that stands for a user's mistake."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can correct: one clear message, shown without a traceback, exit code 2."""


def nearest(name: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the known name nearest to `name`, or '' where none is near."""
    matches = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{matches[0]}'?" if matches else ""
