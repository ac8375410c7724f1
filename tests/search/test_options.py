"""The command line: what is refused and in which words, and what follows where nothing is said."""

from pathlib import Path
from typing import Any

import pytest

from search.options import DEFAULTS, FIXED, KEPT, Options, again, default_name, fixed, flag, parser, resolve, shown
from search.run import main
from spaces.loading import load
from trainable.errors import UserError

LONG = "a" * 300


def options(*arguments: str) -> Options:
    given = vars(parser().parse_args(arguments))
    return resolve(given, load(given["space"] or "dropout"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--trials 0", "--trials: '0' is not an integer of at least 1"),
        ("--epochs many", "--epochs: 'many' is not an integer of at least 1"),
        ("--seed -1", "--seed: '-1' is not an integer from 0 to 2^32 - 1"),
        ("--image-size 20", "--image-size: '20' is not an integer in 28..256"),
        ("--time-budget soon", "--time-budget: 'soon' is not a time above 0, as in 90s, 30m or 2h"),
        ("--time-budget 0s", "--time-budget: '0s' is not a time above 0, as in 90s, 30m or 2h"),
        (
            "--cpus-per-trial 1.5",
            "--cpus-per-trial: '1.5' is not a fraction of one from 0.0001 on, or a whole number above",
        ),
        (
            "--cpus-per-trial 0",
            "--cpus-per-trial: '0' is not a fraction of one from 0.0001 on, or a whole number above",
        ),
        (
            "--cpus-per-trial 0.00009",
            "--cpus-per-trial: '0.00009' is not a fraction of one from 0.0001 on, or a whole number above",
        ),
        (
            "--gpus-per-trial 0.00009",
            "--gpus-per-trial: '0.00009' is not a fraction of one from 0.0001 on, or a whole number above",
        ),
        ("--gpus-per-trial one", "--gpus-per-trial: 'one' is not a number"),
        ("--name a/b", "--name: 'a/b' is not a name of up to 100 letters, digits, '_', '-' and '.'"),
        (f"--name {'a' * 101}", f"--name: '{'a' * 101}' is not a name of up to 100 letters, digits, '_', '-' and '.'"),
        ("--name ..", "--name: '..' is not a name of up to 100 letters, digits, '_', '-' and '.'"),
        ("--sampler gird", "--sampler: invalid choice: 'gird'"),
        ("--precision int8", "--precision: invalid choice: 'int8'"),
        ("--folds 1", "--folds: '1' is not an integer in 2..20"),
        ("--folds 21", "--folds: '21' is not an integer in 2..20"),
        ("--audit 0", "--audit: '0' is not a share above 0 and up to 1, as in 0.1"),
        ("--audit 1.5", "--audit: '1.5' is not a share above 0 and up to 1, as in 0.1"),
        ("--audit nan", "--audit: 'nan' is not a share above 0 and up to 1, as in 0.1"),
        ("--repeats 0", "--repeats: '0' is not an integer of at least 1"),
        ("--storage s3://key:secret@bucket/x", "--storage: a URI with credentials would be written into run.json; use"),
        ("--storage=", "--storage: '' is no place; give a folder, a URI, or none"),
        (
            "--storage ~nobody-of-that-name/x",
            "--storage: '~nobody-of-that-name/x' is in a home folder that this machine does not know; give the folder "
            "in full",
        ),
        ("--storage s3://[", "--storage: 's3://[' is no URI (Invalid IPv6 URL); give one as s3://BUCKET/FOLDER"),
        *(
            (f"--{name} {LONG}", f"--{name}: '{LONG}' is too long for the name of a file or folder")
            for name in ("space", "data", "test", "out", "cache")
        ),
        (
            "--storage s3:/bucket/x",
            "--storage: 's3:/bucket/x' is neither a folder nor a URI, as s3://BUCKET/FOLDER;",
        ),
    ],
)
def test_a_bad_value_is_refused_with_its_option(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"Error: {message}") and said.endswith(". See: python -m search.run --help\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("s3://bucket/runs?region=here", "s3://bucket/runs?region=here"),
        ("~/runs", str(Path("~/runs").expanduser())),
        ("runs", str(Path("runs").absolute())),
        ("./s3:/runs", str(Path("s3:/runs").absolute())),
        ("none", ""),
    ],
)
def test_a_storage_is_a_uri_or_a_folder_that_is_found_from_anywhere(given: str, place: str) -> None:
    assert options("--storage", given).storage == place


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--space droput", "--space: no space is called 'droput'; did you mean 'dropout'? See --list-spaces."),
        ("--sampler grid", "--sampler: the space 'dropout' has no grid; choose tpe, random, gp, cmaes or qmc."),
        ("--space gridsearch --trials 28", "--trials: the grid of 'gridsearch' has 27 points, fewer than 28."),
        (
            "--age-groups 10,30,61",
            "--age-groups: digits is no folder of UTKFace's file names, and nothing else has age classes; "
            "leave the option out",
        ),
        (
            "--audit 0.1 --scheduler none",
            "--audit: the scheduler none stops no trial, so there is nothing to audit; choose asha or median.",
        ),
        ("--resume a --name b", "--resume and --name name two runs; give one of them."),
        ("--folds 3 --split 70/15/15", "--split and --folds divide the images in two ways; give one of them."),
        (
            "--space gridsearch --repeats 2 --trials 55",
            "--trials: the grid of 'gridsearch' has 54 points of 2 repeats, fewer than 55.",
        ),
        (
            "--space gridsearch --sampler tpe --repeats 2",
            "--repeats: the space 'gridsearch' has no known starts, and tpe no grid.",
        ),
        (
            "--repeats 2 --scheduler asha",
            "--repeats: asha would stop some seeds of a configuration and leave the lucky ones; "
            "choose --scheduler none.",
        ),
        (
            "--target Age --inputs Gender,Age",
            "--target: the network cannot learn Age and read it by --inputs too.",
        ),
        ("--target Age", "--target: digits has no metadata column 'Age'"),
        ("--folds 3 --inputs Race", "--inputs: digits has no metadata column 'Race'"),
        ("--space inputs", "--space inputs: name the columns to choose from, as in --inputs Gender,Race."),
        (
            "--list-spaces --trials 3",
            "--list-spaces goes with --space, --inputs, --target and --image-size, not with --trials.",
        ),
    ],
)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(
    arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path), *arguments.split()]) == 2
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", f"Error: {message}\n")
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where_a_mistake_was_found(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        main(["--out", str(tmp_path), "--space", "droput", "--debug"])


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("90", 90), ("30m", 1800), ("2h", 7200), ("1.5 h", 5400), ("0.5m", 30)]
)
def test_durations(text: str, seconds: float) -> None:
    assert options("--time-budget", text).time_budget == seconds


@pytest.mark.parametrize(
    ("space", "data", "name"),
    [
        ("dropout", "digits", "dropout-digits"),
        ("dropout", "faces/data.csv", "dropout-faces"),
        ("gridsearch", "/photos/", "gridsearch-photos"),
        ("spaces/of mine.py", "faces/data.csv", "of-mine-faces"),
        ("dropout", "a" * 120, f"dropout-{'a' * 92}"),  # as long as --name and --resume may be
        ("dropout", f"{'a' * 91}-{'b' * 9}", f"dropout-{'a' * 91}"),
        ("мой.py", "фото", "run"),
    ],
)
def test_a_run_is_named_after_its_space_and_data(space: str, data: str, name: str) -> None:
    assert default_name(space, data) == name


def test_a_csv_beside_us_names_the_run_after_our_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "faces"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert default_name("dropout", "data.csv") == "dropout-faces"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", {"space": "dropout", "data": "digits", "image_size": 28, "trials": 24, "epochs": 30, "sampler": "tpe"}),
        ("", {"age_groups": "10,20,30,40,50,61"}),
        ("--data faces/data.csv", {"image_size": 64, "name": "dropout-faces"}),
        ("--space gridsearch", {"trials": 27, "epochs": 10, "sampler": "grid", "scheduler": "none"}),
        ("--space gridsearch --sampler tpe", {"trials": 24, "sampler": "tpe"}),
        ("--space gridsearch --trials 4", {"trials": 4}),
        ("--space gridsearch --repeats 2", {"trials": 54, "repeats": 2, "scheduler": "none"}),
        ("--space dropout --repeats 3", {"trials": 27, "scheduler": "none"}),  # nine known starts
        ("--space dropout --repeats 2", {"trials": 24}),  # the space's, of which 18 are starts
        ("--space dropout --repeats 3 --trials 5", {"trials": 5}),
        ("", {"repeats": 1, "folds": 0, "split": "70/15/15", "target": None}),
        ("--folds 5 --target Age", {"folds": 5, "target": "Age"}),
        ("--inputs Gender,Race", {"inputs": ("Gender", "Race")}),
        ("--inputs Gender,,Gender", {"inputs": ("Gender",)}),
        ("--test faces/test.csv", {"ensemble": True, "test": "faces/test.csv"}),
        ("--gpus-per-trial 0", {"gpus_per_trial": 0.0}),
        ("--gpus-per-trial 0.0001 --cpus-per-trial 0.0001", {"gpus_per_trial": 0.0001, "cpus_per_trial": 0.0001}),
        ("--gpus-per-trial 0.25 --cpus-per-trial 2", {"gpus_per_trial": 0.25, "cpus_per_trial": 2.0}),
    ],
)
def test_what_is_not_said_follows_from_the_space_and_the_data(arguments: str, expected: dict[str, Any]) -> None:
    found = options(*arguments.split())
    assert {name: getattr(found, name) for name in expected} == expected


def test_the_runs_folder_is_absolute() -> None:
    assert options("--out", "results", "--name", "a").run == Path.cwd() / "results" / "a"


def test_what_is_fixed_is_said_in_json_values() -> None:
    values = fixed(options("--inputs", "Gender"))
    assert tuple(values) == tuple(FIXED)
    assert values["inputs"] == ["Gender"]


def test_the_command_that_goes_on_asks_for_all_that_was_asked() -> None:
    assert again(options("--name", "faces")) == "python -m search.run --resume faces"
    asked = options("--name", "faces", "--out", "a b", "--confirm", "--test", "my photos", "--address", "auto")
    then = f"--confirm --test '{Path.cwd()}/my photos' --address auto"
    assert again(asked) == f"python -m search.run --resume faces --out 'a b' {then}"
    assert again(options("--name", "faces", "--ensemble")) == "python -m search.run --resume faces --ensemble"


def test_no_option_is_lost_where_a_search_goes_on() -> None:
    """A new one must be in the command that goes on, or in the run's record."""
    asked = {"name", "out", "confirm", "ensemble", "test", "address"}
    recorded = {*FIXED, *KEPT, "cache"}
    of_a_command = {"time_budget", "command", "goes_on"}
    assert asked | recorded | of_a_command == set(Options.__dataclass_fields__)


def test_every_option_has_a_field() -> None:
    others = {"list_spaces", "resume", "debug"}
    assert set(vars(parser().parse_args([]))) - others == set(Options.__dataclass_fields__) - {"command", "goes_on"}
    assert set(DEFAULTS) < set(Options.__dataclass_fields__)


@pytest.mark.parametrize(("value", "text"), [(["a", "b"], "a,b"), ([], "none"), ((), "none"), (None, "none"), (3, "3")])
def test_values_are_shown_as_one_would_write_them(value: Any, text: str) -> None:
    assert shown(value) == text
    assert flag("image_size") == "--image-size"
