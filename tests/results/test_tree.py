"""What a run's folder may hold."""

import os
from pathlib import Path

import pytest

from results.tree import check_entry, check_tree
from trainable.errors import UserError


def test_what_a_run_leaves_is_let_be(tmp_path: Path) -> None:
    for folder in ("trials/0000", "confirm/1", "ensembles/e4f1b9f4ef2a", "tune/run.2024", "wandb"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("run.json", ".lock", "trials/0000/fold1.safetensors", "trials/0000/.worker", "mlflow.db", "notes"):
        (tmp_path / file).touch()
    (tmp_path / "wandb" / "latest-run").symlink_to(tmp_path)  # which wandb makes itself
    check_tree(tmp_path)
    check_tree(tmp_path / "to come")
    check_tree(tmp_path / "run.json")
    check_entry(tmp_path / "to come.json")


@pytest.mark.parametrize("name", ["run.json", ".worker", "fold2.safetensors", "study.journal", "tune/a/result.json"])
def test_a_folder_in_a_files_place_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir(parents=True)
    with pytest.raises(UserError) as error:
        check_tree(tmp_path)
    assert str(error.value) == (
        f"{tmp_path / name} is a folder, where a run has a file: put that in its place, or move it away."
    )


def test_a_pipe_is_named_wherever_it_is(tmp_path: Path) -> None:
    (tmp_path / "trials").mkdir()
    os.mkfifo(tmp_path / "trials" / "any")
    with pytest.raises(UserError) as error:
        check_tree(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/trials/any is neither a file nor a folder, and a run has nothing else: move it away."
    )


def test_links_are_named_also_those_to_themselves(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.symlink_to(path)
    for check in (lambda: check_tree(tmp_path), lambda: check_entry(path)):
        with pytest.raises(UserError, match=r"^.*/metrics\.csv is a symbolic link, and a run has none: "):
            check()
