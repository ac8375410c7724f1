"""What Ray is handed, and pickles beside its experiment, though nothing is ever unpickled."""

from typing import Any


class Unpickled:
    """A base, before Ray's own, of what would drag a terminal, an open file or the study along."""

    def __getstate__(self) -> dict[str, Any]:
        return {}
