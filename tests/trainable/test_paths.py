from pathlib import Path

from trainable.paths import trial_folder, trial_name


def test_a_trials_folder_has_its_number() -> None:
    assert trial_folder(Path("runs/faces"), trial_name(7)) == Path("runs/faces/trials/0007")
    assert trial_name(12345) == "12345"
