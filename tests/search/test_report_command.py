"""The command on a real search of digits: every format, a run under way, what is wrong, and the page in a browser."""

import csv
import json
import re
import shutil
from io import StringIO
from pathlib import Path

import pytest
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

from search import report
from search.options import CONFIRM
from tests.search.conftest import TRIALS
from trainable.digits import digits_folder


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert report.main(arguments) == 0
    return capsys.readouterr().out


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence of a mistake."""
    assert report.main(arguments) == 2
    found = capsys.readouterr()
    assert found.out == "" and found.err.count("\n") == 1
    return found.err.removeprefix("Error: ").rstrip()


def test_the_page_is_one_file_that_asks_nobody(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed([str(run)], capsys) == f"Wrote {run / 'report.html'}\n"
    page = (run / "report.html").read_text()
    assert f"The best of {TRIALS} trials is trial " in page
    assert "python -m search.confirm" in page
    assert "parameters</th>" in page
    text = page[: page.index("<script")]
    assert text.count('<img src="data:image/webp;base64,') == text.count("<img ") > 0
    assert "<link" not in text and "<script src" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src &#39;none&#39;") and "unsafe-eval" not in policy[1]


def test_json_has_the_same_facts(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (facts,) = json.loads(printed([str(run), "--format", "json"], capsys))["runs"]
    board = list(csv.DictReader((run / "leaderboard.csv").open()))
    assert [row["trial"] for row in facts["leaderboard"]] == [row["trial"] for row in board]
    assert [row["parameters"] for row in facts["leaderboard"]] == [int(row["parameters"]) for row in board]
    assert facts["best_of"] == TRIALS and facts["status"] is None
    assert facts["answer"][0].startswith(f"The best of {TRIALS} trials is trial {board[0]['trial']}: ")
    assert facts["epochs_spent"] == sum(int(row["epochs"]) for row in board)
    best = facts["predictions"][0]
    assert best["accuracy"]["value"] == pytest.approx(float(board[0]["valid_accuracy"]), abs=1e-6)
    assert sum(map(sum, best["confusion"])) == best["images"] == facts["images_ranked_on"]
    ensemble = json.loads((run / "ensemble.json").read_text())
    assert facts["ensemble"]["method"] == ensemble["method"]
    assert {row["class"] for row in facts["balance"]} == set("0123456789")


def test_csv_has_a_row_a_trial_with_its_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(StringIO(printed([str(run), "--format", "csv"], capsys))))
    assert len(rows) == TRIALS and {row["run"] for row in rows} == {"run"}
    share = float(rows[0]["valid_accuracy"])
    images = 225  # of 1,500 a sixth and a bit: 70/15/15
    assert float(rows[0]["valid_accuracy_error"]) == pytest.approx((share * (1 - share) / images) ** 0.5, rel=1e-4)


def test_markdown_has_the_answer_and_the_tables(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed([str(run), "--format", "md"], capsys)
    assert text.startswith("# run\n\n- The best of ")
    assert "## Leaderboard" in text and "## How the ensemble was chosen" in text
    assert len(re.findall(r"^\| \d+ \| \d{4} \|", text, re.MULTILINE)) == TRIALS


def test_what_is_written_is_written_where_it_is_asked_for(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "board.csv"
    assert printed([str(run), "--format", "csv", "--output", str(path)], capsys) == f"Wrote {path}\n"
    assert path.read_text().startswith("run,rank,trial,")
    assert not (run / "report.html").exists()


def test_a_run_under_way_is_shown_as_it_stands(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The journal as a driver has it that is writing its next line; and no leaderboard yet."""
    journal = run / "study.journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    ends = [number for number, line in enumerate(lines) if b'"end"' in line]
    content = b"".join(lines[: ends[4]]) + lines[ends[4]][:20]
    journal.write_bytes(content)
    (run / "leaderboard.csv").unlink()
    (run / "ensemble.json").unlink()
    (facts,) = json.loads(printed([str(run), "--format", "json"], capsys))["runs"]
    assert re.fullmatch(rf"Not at its end: 4 of {TRIALS} trials done, \d under way\.", facts["status"])
    assert facts["leaderboard"][0]["parameters"] is None
    assert journal.read_bytes() == content  # the torn line is its writer's
    page = page_of(run, capsys)
    assert "python -m search.run --resume run --out " in page
    assert "loss</th>" in page and "parameters</th>" not in page  # they are counted at the end


def test_a_run_that_has_no_trial_yet_has_a_page(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "study.journal").unlink()
    shutil.rmtree(run / "trials")
    assert "No trial has finished an epoch yet, so there is nothing to rank." in page_of(run, capsys)


def test_names_are_text_and_never_a_page_s_code(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "</script><script>document.title='taken'</script>"
    for name in ("run.json", "splits.csv"):
        text = (run / name).read_text()
        text = text.replace('"9"', json.dumps(evil)) if name == "run.json" else text.replace(",9,", f",{evil},")
        (run / name).write_text(text)
    page = page_of(run, capsys)
    assert "taken" in page and evil not in page
    text = printed([str(run), "--format", "md"], capsys)
    assert "taken" in text and "<" not in text.replace("\\<", "")


def page_of(run: Path, capsys: pytest.CaptureFixture[str]) -> str:
    printed([str(run)], capsys)
    return (run / "report.html").read_text()


def test_two_runs_stand_side_by_side(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Path(shutil.copytree(run, tmp_path / "other"))
    record = json.loads((other / "run.json").read_text())
    record["data"]["fingerprint"] = "0" * 32
    (other / "run.json").write_text(json.dumps(record))
    page = tmp_path / "page.html"
    printed([str(run), str(other), str(run), "--output", str(page)], capsys)
    text = page.read_text()
    assert "<h1>run and other</h1>" in text
    assert "other has other data than run (or reads other columns), so their figures do not compare." in text


def test_pictures_are_of_data_that_this_user_has_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that somebody else has made says that its images are some of this user's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    private = digits_folder(tmp_path).rename(tmp_path / "private")
    record = json.loads((run / "run.json").read_text())
    record["arguments"]["data"] = record["data"]["source"] = str(private)
    (run / "run.json").write_text(json.dumps(record))
    shown, named = '<img src="data:image', '<span class="name">images/'
    page = page_of(run, capsys)
    assert page.count(shown) == 0 < page.count(named)
    assert (
        f"No pictures: {run / 'run.json'} has --data {private}, which no command of yours on this machine has named "
        "yet. A run may come from anybody, so what it runs, what it shows and where it writes is yours to say: give "
        "--data CSV|FOLDER."
    ) in page
    printed([str(run), "--data", "private/"], capsys)
    for page in ((run / "report.html").read_text(), page_of(run, capsys)):  # from then on it is known
        assert page.count(shown) == page.count(named) > 0 and "No pictures" not in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--format", "csv", "--data", "."], "--data: nothing but the page has pictures; leave it or --format out."),
        (["--data", "/nowhere"], "--data: no file or folder is called '/nowhere'."),
        (["--serve", "--format", "csv"], "--serve shows a page and writes none; leave --output and --format out."),
        (["--port", "80"], "--port: nothing but --serve needs one; add it, or leave --port out."),
        (
            ["--serve", "--port", "70000"],
            "--port: 70000 is no port; choose one from 1 to 65535, or 0 for any that is free.",
        ),
        (["--output", "/nowhere/page.html"], "--output: /nowhere/page.html is in no folder that exists."),
        (
            ["--output", "/proc/page.html"],
            "--output: /proc/page.html cannot be written (No such file or directory); choose another place.",
        ),
    ],
)
def test_options_that_do_not_fit(
    run: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused([str(run), *arguments], capsys) == said


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused([str(tmp_path)], capsys) == f"{tmp_path} is not a run's folder: it has no run.json."


@pytest.mark.parametrize("options", [[], ["--serve", "--port", "0"]])
def test_a_part_of_a_confirmation_is_shown_with_its_search(
    run: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    part = run / "confirm" / "1"
    shutil.copytree(run, part)
    record = json.loads((part / "run.json").read_text())
    record["arguments"]["space"] = CONFIRM
    (part / "run.json").write_text(json.dumps(record))
    assert refused([str(part), *options], capsys) == (
        f"RUN: {part} is a part of a confirmation, which goes on with: python -m search.confirm {run}"
    )


def test_a_run_of_another_format(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "format": 1}))
    assert (
        refused([str(run)], capsys)
        == f"{run / 'run.json'} has format 1, not 2: read it with the version that wrote it."
    )


def test_a_run_whose_record_lacks_a_part(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads((run / "run.json").read_text())
    del record["seed"]
    (run / "run.json").write_text(json.dumps(record))
    said = refused([str(run)], capsys)
    assert said.startswith(f"{run / 'run.json'} is not the record of a run, or is damaged ('seed' is missing). ")


def test_a_damaged_part_is_named_and_nothing_is_written(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "trials" / "0001" / "metrics.csv").write_text("epoch,valid_loss\n1,abc\n")
    assert "0001/metrics.csv is damaged" in refused([str(run)], capsys)
    assert not (run / "report.html").exists()


def test_an_ensemble_whose_member_is_gone_is_a_note(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    member = json.loads((run / "ensemble.json").read_text())["members"][0]["trial"]
    (run / "trials" / member / "logits.npz").unlink()
    assert f"{member}/logits.npz is missing or damaged" in page_of(run, capsys)


def test_an_ensemble_without_its_scores_is_a_note(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = run / "ensemble.json"
    manifest = json.loads(path.read_text())
    del manifest["scores"]["single"]["accuracy"]["low"]
    path.write_text(json.dumps(manifest))
    page = page_of(run, capsys)
    assert f"{path} lacks scores, or is damaged (&#39;low&#39; is missing)." in page
    assert "How the ensemble was chosen" not in page


# In a browser


def drawn(browser: WebDriver, address: str) -> list[str]:
    """Opens a page and waits for its figures; returns their ids. Nothing may have gone wrong in it."""
    browser.get_log("browser")  # type: ignore[no-untyped-call]  # of the page before
    browser.get(address)
    script = "return [...document.querySelectorAll('.vega')].map((one) => [one.id, one.querySelector('svg') !== null])"
    WebDriverWait(browser, 60).until(lambda page: all(there for _, there in page.execute_script(script)))
    assert browser.get_log("browser") == []  # type: ignore[no-untyped-call]
    return [name for name, _ in browser.execute_script(script)]


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (375, True)])
def test_the_page_draws_all_its_figures_at_any_width(
    run: Path, browser: WebDriver, capsys: pytest.CaptureFixture[str], width: int, dark: bool
) -> None:
    page_of(run, capsys)
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    names = drawn(browser, f"file://{run / 'report.html'}")
    shown = "curves best effects slice0 confusion0 recalls0 calibration0 confusion1 balance timeline".split()
    assert {f"{name}-0" for name in shown} <= set(names)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert browser.execute_script("return document.querySelectorAll('.pictures img').length") > 0
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(20, 24, 29)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize(("figure", "said"), [("curves-0", "epoch"), ("slice0-0", "lr"), ("timeline-0", "epochs")])
def test_pointing_at_a_trial_names_it(
    run: Path, browser: WebDriver, capsys: pytest.CaptureFixture[str], figure: str, said: str
) -> None:
    page_of(run, capsys)
    drawn(browser, f"file://{run / 'report.html'}")
    marks = f"document.querySelectorAll('#{figure} .mark-symbol.role-mark path, #{figure} .mark-rect.role-mark path')"
    browser.execute_script(f"{marks}[0].scrollIntoView({{block: 'center'}})")
    box = browser.execute_script(
        f"const box = {marks}[0].getBoundingClientRect(); return [box.x, box.y, box.width, box.height]"
    )
    for shift in (0, 0.5):  # the first move enters the figure
        place = {"x": box[0] + box[2] / 2 + shift, "y": box[1] + box[3] / 2}
        browser.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", **place})
    tooltip = "return document.querySelector('#vg-tooltip-element.visible')?.innerText ?? ''"
    text = WebDriverWait(browser, 30).until(lambda page: page.execute_script(tooltip))
    assert re.match(r"trial\s+\d{4}\s", text) and said in text


def test_a_stranger_s_class_names_do_nothing_in_the_browser(
    run: Path, browser: WebDriver, capsys: pytest.CaptureFixture[str]
) -> None:
    test_names_are_text_and_never_a_page_s_code(run, capsys)
    drawn(browser, f"file://{run / 'report.html'}")
    assert browser.title == "run"
