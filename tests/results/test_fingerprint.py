"""The fingerprint of the code."""

from pathlib import Path

import pytest

from results import fingerprint
from results.fingerprint import code_fingerprint
from trainable.node import versions


def test_the_code_fingerprint_is_of_the_packages_asked_for() -> None:
    assert code_fingerprint() == code_fingerprint(("results", "trainable"))
    assert len({code_fingerprint(), code_fingerprint(("results",)), code_fingerprint(("trainable",))}) == 3


@pytest.mark.parametrize(("name", "counts"), [("a.py", True), ("a.cpp", True), ("a.h", True), ("a.so", False)])
def test_code_of_both_languages_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, counts: bool
) -> None:
    monkeypatch.setattr(fingerprint, "__file__", str(tmp_path / "results" / "fingerprint.py"))
    path = tmp_path / "trainable" / name
    path.parent.mkdir()
    path.write_text("1")
    before = code_fingerprint()
    path.write_text("2")
    assert (code_fingerprint() != before) == counts


def test_versions_name_what_numbers_depend_on() -> None:
    assert {"python", "numpy", "scipy", "torch", "torchvision"} <= set(versions())
