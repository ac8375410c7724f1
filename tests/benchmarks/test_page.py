import shutil
from pathlib import Path

import pytest

from benchmarks.page import opened


@pytest.mark.skipif(
    shutil.which("chromium") is None or shutil.which("chromedriver") is None, reason="needs chromium and chromedriver"
)
def test_a_page_is_drawn_when_its_last_figure_is(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<!doctype html><div class='vega' id='last'></div>"
        "<script>setTimeout(() => { last.innerHTML = '<svg></svg>'; }, 300)</script>"
    )
    times = opened(page, 2)
    assert len(times) == 2
    assert all(loaded <= drawn and drawn >= 0.3 for loaded, drawn in times)
