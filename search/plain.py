"""The console of all commands."""

from typing import Any

from rich.console import Console
from rich.text import Text

from search.cli import printable


class Plain(Console):
    """Shows names of files and classes as they are: no markup, nothing highlighted, control characters spelt out."""

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(highlight=False, markup=False, quiet=quiet)

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)
