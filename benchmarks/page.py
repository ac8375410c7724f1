"""The report page of a thousand trials: how long it takes to make, how large it is, and how long to open.

    python -m benchmarks.page --trials 1000

The run is one of `benchmarks.scale`: trials that sleep instead of training, through the whole search. The page is
opened in a headless Chromium (`chromium` and `chromedriver` on the PATH): it can be read and scrolled from its load
event on, and its figures are drawn from the top.
"""

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure, Goal, Machine, finish, parser
from benchmarks.scale import searched

DRAWN = "return [...document.querySelectorAll('.vega')].every((one) => one.querySelector('svg') !== null)"


def made(run: Path) -> float:
    """Seconds that the command takes to write the page."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "search.report", str(run)], check=True, stdout=sys.stderr)
    return time.perf_counter() - began


def opened(page: Path, times: int) -> list[tuple[float, float]]:
    """Seconds until the page has loaded, and until its last figure is drawn, each time in a new tab of one browser."""
    from selenium.webdriver import Chrome
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        sys.exit("chromium and chromedriver must be on the PATH.")
    options = Options()
    options.binary_location = chromium
    for name in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-sync"):
        options.add_argument(f"--{name}")
    browser = Chrome(options=options, service=Service(driver))
    seconds = []
    try:
        for _ in range(times):
            browser.switch_to.new_window("tab")
            began = time.perf_counter()
            browser.get(page.resolve().as_uri())  # returns when it has loaded
            loaded = time.perf_counter() - began
            while not browser.execute_script(DRAWN):
                time.sleep(0.01)
            seconds.append((loaded, time.perf_counter() - began))
    finally:
        browser.quit()
    return seconds


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--trials", type=int, default=1000)
    command.add_argument("--epochs", type=int, default=12, help="of a trial that runs its course")
    command.add_argument("--times", type=int, default=5, help="that the page is opened")
    asked = command.parse_args()
    search = argparse.Namespace(trials=asked.trials, epochs=asked.epochs, seconds=0.0, slots=2, images=200)
    with tempfile.TemporaryDirectory() as folder:
        searched(search, Path(folder))
        run = Path(folder) / "runs" / "scale"
        making = made(run)
        page = run / "report.html"
        size = page.stat().st_size / 1e6
        opening = opened(page, asked.times)
    what = f"page of {asked.trials} trials of at most {asked.epochs} epochs"
    loaded, drawn = zip(*opening, strict=True)
    figures = [
        Figure(f"{what}: to make it, s", making, 1),
        Figure(f"{what}: its size, MB", size, 1, goal=Goal("ours", "<=", 5)),
        Figure(
            f"{what}: to open it, s, the median", statistics.median(loaded), asked.times, goal=Goal("ours", "<=", 2)
        ),
        Figure(f"{what}: until its last figure is drawn, s, the median", statistics.median(drawn), asked.times),
    ]
    finish("page", machine, figures, {"seconds": [[round(part, 2) for part in one] for one in opening]}, asked.out)


if __name__ == "__main__":
    main()
