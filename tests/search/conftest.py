"""What tests of the search share: a Ray that many commands join, and images with metadata."""

import csv
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.remote.webdriver import WebDriver

from search import run as search_run
from search.authentication import make_token
from tests.search.heads import ray_head

SIZE, PEOPLE = 28, 60
TRIALS = 9  # of the finished search
AGES = (3, 8, 14, 19, 25, 28, 33, 37, 46, 58)  # two a class: below 10, 20, 30, 40, 61


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a Ray that a token protects: to join it takes a second, to start one some five."""
    make_token()
    with ray_head("token") as address:
        yield address


def write_csv(path: Path, rows: list[Mapping[str, object]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with people.csv: 60 random images of five classes, whose Age tells the class; and test.csv, 5 more."""
    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(5)
    rows: list[Mapping[str, object]] = []
    for number in range(PEOPLE + 5):
        name, age = f"{number}.png", AGES[number % len(AGES)]
        Image.fromarray(rng.integers(256, size=(SIZE, SIZE, 3), dtype=np.uint8)).save(folder / name)
        gender, race = number // 10 % 2, number // 20
        rows.append({"Image": name, "Label": AGES.index(age) // 2, "Age": age, "Gender": gender, "Race": race % 3})
    write_csv(folder / "people.csv", rows[:PEOPLE])
    tests = [{name: cell for name, cell in row.items() if name in ("Image", "Gender", "Race")} for row in rows[PEOPLE:]]
    write_csv(folder / "test.csv", tests)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of decoded images."""
    return tmp_path_factory.mktemp("cache")


TINY = """
from spaces.space import Space
from trainable.config import TrialConfig

def sample(trial):
    lr = trial.suggest_float("lr", 1e-4, 1e-1, log=True)
    return TrialConfig(depth=4, widths=(4, 8, 8, 8), dropout=(0.0, 0.0, 0.0, 0.1), lr=lr, batch_size=32)

SPACE = Space("tiny", "a network of four narrow convolutions", sample, starts=[{"lr": 1e-3}, {"lr": 1e-2}])
"""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of a space whose networks train in no time."""
    path = tmp_path_factory.mktemp("space") / "tiny.py"
    path.write_text(TINY)
    return str(path)


@pytest.fixture(scope="session")
def finished(tiny: str, cache: Path, cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search of digits that has ended, with an ensemble."""
    out = tmp_path_factory.mktemp("runs")
    where = ["--out", str(out), "--address", cluster, "--gpus-per-trial", "0", "--max-concurrent", "2"]
    options = ["--space", tiny, "--trials", str(TRIALS), "--epochs", "4", "--cache", str(cache), "--ensemble"]
    assert search_run.main([*options, *where, "--name", "run"]) == 0
    return out / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="session")
def browser() -> Iterator[WebDriver]:
    """A headless Chromium that can reach nobody but this machine."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and chromedriver on the PATH")
    options = Options()
    options.binary_location = chromium
    quiet = "no-first-run disable-background-networking disable-component-update disable-sync disable-quic disable-gpu"
    for name in ("headless=new", "no-sandbox", *quiet.split()):  # a sandbox needs more than a container gives
        options.add_argument(f"--{name}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = Chrome(options=options, service=Service(driver))
    try:
        yield started
    finally:
        started.quit()
