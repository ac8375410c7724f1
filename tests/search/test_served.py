"""The served page over real sockets: who is answered what, who is not waited for, and that it keeps up with its run."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread

import pytest
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

from search import report, served
from search.served import Pages, _server


@contextmanager
def serving(run: Path, ended_by: signal.Signals = signal.SIGINT, ending: tuple[int, str] = (0, "\n")) -> Iterator[int]:
    """The port of the run's served page. Nothing but its address, and how it ended, may come into the terminal."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-u", "-m", "search.report", str(run), "--serve", "--port", "0"]
    process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        found = re.match(r"http://127\.0\.0\.1:(\d+)/ shows it, on this machine alone; Ctrl-C ends it\.", line)
        assert found, line + process.stdout.read()
        yield int(found[1])
    finally:
        process.send_signal(ended_by)
        said, _ = process.communicate(timeout=30)
        assert (process.returncode, said) == ending


def without_trials(run: Path) -> Path:
    """A run whose page is made in no time."""
    (run / "study.journal").unlink()
    shutil.rmtree(run / "trials")
    return run


@pytest.fixture
def begun(run: Path) -> Path:
    return without_trials(run)


@pytest.fixture(scope="module")
def port(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a run that nothing is changed of."""
    run = shutil.copytree(finished, tmp_path_factory.mktemp("served") / "run")
    with serving(without_trials(Path(run))) as found:
        yield found


def asked(port: int, path: str = "/", method: str = "GET", host: str | None = None) -> tuple[int, int, str]:
    """An answer's code, the length that it says it has, and its text."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path, headers={"Host": host} if host else {})
        answer = connection.getresponse()
        return answer.status, int(answer.headers["Content-Length"]), answer.read().decode()
    finally:
        connection.close()


def test_the_page_and_its_state(port: int) -> None:
    code, _, text = asked(port)
    assert code == 200 and text.startswith("<!doctype html>")
    code, _, state = asked(port, "/state")
    assert code == 200 and f'"{state}"' in text


def test_a_query_changes_nothing(port: int) -> None:
    assert asked(port, "/?from=mail") == asked(port)
    assert asked(port, "/state?1") == asked(port, "/state")


def test_there_is_nothing_else(port: int) -> None:
    assert asked(port, "/run.json")[0] == 404


@pytest.mark.parametrize(
    ("host", "code"), [("localhost", 200), ("LOCALHOST", 200), ("evil.example", 403), ("localhost.evil.example", 403)]
)
def test_the_page_is_for_this_machine_alone(port: int, host: str, code: int) -> None:
    # Through `ssh -L` the browser has another port, or none.
    assert [asked(port, host=f"{host}{end}")[0] for end in (f":{port}", ":9", "")] == [code] * 3


def test_a_request_without_a_host_is_nobody_s(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.0 403 ")


def test_a_head_is_the_answer_without_its_text(port: int) -> None:
    _, length, text = asked(port)
    assert asked(port, method="HEAD") == (200, length, "") and length == len(text.encode())


def test_a_reader_who_goes_is_no_error(begun: Path) -> None:
    """With a reset within the request, and before the answer; `serving` sees what the terminal is told of it."""
    with serving(begun) as port:
        for request in (b"GET / HT", b"GET / HTTP/1.0\r\nHost: localhost:%d\r\n\r\n" % port):
            for _ in range(5):
                client = socket.create_connection(("127.0.0.1", port))
                client.sendall(request)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close resets
                client.close()
        assert asked(port)[0] == 200


def test_who_says_nothing_is_not_waited_for(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(b"GET / HT")
        assert client.recv(1) == b""  # closed from there


def test_what_is_wrong_with_a_run_is_said(begun: Path) -> None:
    with serving(begun) as port:
        (begun / "run.json").write_text("{")
        code, _, text = asked(port)
        assert code == 503 and text.startswith(f"{begun / 'run.json'} is not the record of a run, or is damaged (")


def test_a_mistake_of_ours_is_said_and_the_next_page_may_be_whole(begun: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _server(Pages([begun], 5), 0) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            with monkeypatch.context() as patch:
                patch.setattr(served, "following", lambda facts: 1 / 0)
                code, _, text = asked(server.server_port)
            assert (code, text) == (
                500,
                "ZeroDivisionError('division by zero') (where: python -m search.report, without --serve)\n",
            )
            assert asked(server.server_port)[0] == 200
        finally:
            server.shutdown()
            thread.join()


def test_a_signal_ends_it_and_promises_nothing(begun: Path) -> None:
    with serving(begun, signal.SIGTERM, (143, "Terminated.\n")) as port:
        assert asked(port)[0] == 200


def test_a_port_that_is_taken(run: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(run), "--serve", "--port", str(port)]) == 2
    assert capsys.readouterr().err == f"Error: --port: {port} is taken; choose another, or 0 for any that is free.\n"


# Keeping up


@pytest.mark.parametrize(
    "name", ["run.json", "splits.csv", "study.journal", "leaderboard.csv", "ensemble.json", "trials/0001/metrics.csv"]
    + ["trials/0002/logits.npz", "tune/*/result.json"],
)  # fmt: skip
def test_every_file_that_a_page_is_made_of_is_watched(run: Path, name: str) -> None:
    pages = Pages([run], 5)
    before = pages.state()
    assert pages.state() == before
    path = next(run.glob(name))
    path.write_bytes(path.read_bytes() + b"\n")
    changed = pages.state()
    assert changed != before
    path.unlink()
    assert pages.state() not in (before, changed)


@pytest.mark.parametrize(
    "name", ["confirm.json", "confirm/1/run.json", "confirm/2/study.journal", "confirm/1/leaderboard.csv"]
)
def test_a_confirmation_under_way_is_seen(run: Path, name: str) -> None:
    pages = Pages([run], 5)
    states = [pages.state()]
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    for text in ("begun", "gone on"):
        (run / name).write_text(text)
        states.append(pages.state())
    assert len(set(states)) == 3


def test_a_page_is_kept_for_many_times_what_it_took(begun: Path) -> None:
    pages = Pages([begun], 5)
    first = pages.html()

    def move_on(trials: int) -> None:
        record = json.loads((begun / "run.json").read_text())
        record["arguments"]["trials"] = trials
        (begun / "run.json").write_text(json.dumps(record))

    move_on(20)
    state = pages.state()
    second = pages.html()
    assert "of 20 trials" in second and "of 20 trials" not in first and f'"{state}"' in second
    move_on(30)
    assert (pages.state(), pages.html()) == (state, second)  # less than 20 times what the second took has passed
    while pages.state() == state:
        time.sleep(0.1)
    assert "of 30 trials" in pages.html()


def test_an_open_page_keeps_up_with_its_run(run: Path, browser: WebDriver) -> None:
    journal = run / "study.journal"
    whole = journal.read_bytes()
    cut = whole[: whole.rfind(b'"end"')]
    journal.write_bytes(cut[: cut.rfind(b"\n") + 1])
    status = "return document.querySelector('.status')?.textContent ?? ''"
    with serving(run) as port:
        browser.get(f"http://127.0.0.1:{port}/")
        assert "Not at its end" in browser.execute_script(status)
        journal.write_bytes(whole)
        WebDriverWait(browser, 60).until(lambda page: page.execute_script(status) == "")
