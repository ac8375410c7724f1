"""What reaches the terminal of names that are anybody's."""

import pytest
from rich.table import Table

from search.cli import printable, say
from search.plain import Plain


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),  # the same order in one character
        ("a\rb\x08c\x7f", r"a\rb\x08c\x7f"),
        ("gnp.\u202egpj", r"gnp.\u202egpj"),
        ("two\nlines\tof été 图片 🙂 عربي", "two\nlines\tof été 图片 🙂 عربي"),
    ],
)
def test_orders_to_a_terminal_are_spelt_out(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_the_console_shows_names_as_they_are_and_orders_spelt_out(capsys: pytest.CaptureFixture[str]) -> None:
    console = Plain()
    say(console, "class [red]\x1b[31m, 3 images")
    console.print("path \x1b[2J.png", style="bold")
    table = Table("class \x1b[0m", title="\x1b[1m")
    table.add_row("[b]\x07")
    console.print(table)
    out = capsys.readouterr().out
    assert "class [red]\\x1b[31m, 3 images\n" in out and "path \\x1b[2J.png\n" in out and "[b]\\x07" in out
    assert "\x1b" not in out and "\x07" not in out
