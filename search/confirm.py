"""python -m search.confirm: a search's best configurations, trained again with fresh seeds.

Each tier of a confirmation is an ordinary run, RUN/confirm/1 and RUN/confirm/2: a grid over configurations, repeated
with the same seeds. All have the first tier's; only those that did well with them, the default and the search's winner
have the second's. The winner has them whatever it did, so that its mean is not one that was stopped when it was low.
"""

import argparse
import json
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.cli import FAILED_TRIALS, TERMINATED, exit_code
from search.options import CONFIRM, ON_WHAT, Options, flag, resolve, several, shared_options
from trainable.errors import UserError
from trainable.files import write_json

if TYPE_CHECKING:  # --help must not wait for torch and Ray
    import optuna
    from optuna.trial import FrozenTrial
    from rich.console import Console

    from results.confirmation import Confirmation
    from search.run import Sizes
    from search.study import Settings
    from spaces.space import Space
    from trainable.config import TrialConfig

TOP, SEEDS = 8, 5
FIRST_SEEDS = 2  # of the first tier
ONE_TIER = 3  # with so few seeds all configurations have all of them: there is little to save
FORMAT = 1  # of plan.json and confirm.json
EXAMPLES = """examples:
  python -m search.confirm faces                     the 8 best configurations and the default, up to 5 seeds each
  python -m search.confirm faces --time-budget 2h    the same command again goes on

exit codes:
  0 done   1 failure   2 usage   3 done, but trials failed   130 Ctrl-C   143 SIGTERM; the last two can be resumed
"""


@dataclass(frozen=True)
class Plan:
    """What is to be confirmed: chosen when the first training begins, and kept."""

    top: int
    seeds: int
    winner: str  # the search's best configuration, by its first trial
    accuracy: float  # that it looked like
    compared: int  # configurations that it was the best of
    default: str  # the space's default, by its first trial where it is among the top
    configurations: "Mapping[str, TrialConfig]"  # the top, best first, and the default; their seeds are not read
    settings: Mapping[str, Mapping[str, Any]]  # of each, what was searched

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        configurations = [[name, config.to_dict()] for name, config in self.configurations.items()]
        return {**vars(self), "configurations": configurations, "format": FORMAT}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Plan":
        """The inverse of `to_json`. Raises KeyError, TypeError or ValueError for anything else."""
        from trainable.config import TrialConfig

        fields = dict(values)
        if fields.pop("format") != FORMAT:
            raise ValueError(f"format {values['format']}, not {FORMAT}")
        configurations = {name: TrialConfig.from_dict(config) for name, config in fields.pop("configurations")}
        return cls(configurations=configurations, **fields)


@dataclass(frozen=True)
class Training:
    """A trial of a tier that ran its course."""

    configuration: str
    seed: int
    accuracy: float  # on validation, of its best epoch
    epochs: int
    seconds: float  # of all its epochs
    parameters: int


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns its exit code."""
    began = time.monotonic()
    arguments = vars(parser().parse_args(argv))
    return exit_code(lambda: _command(arguments, began), arguments["debug"])


def parser() -> argparse.ArgumentParser:
    """The command line. An option that is not given is None."""
    parser = argparse.ArgumentParser(
        prog="python -m search.confirm",
        description="Train a search's best configurations and its default again, with fresh seeds, and compare them.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    shared, add = shared_options(), parser.add_argument
    add("run", metavar="RUN", help="a run's name or folder")
    add("--top", type=several, metavar="K", help=f"how many of the best configurations (default: {TOP})")
    add(
        "--seeds",
        type=several,
        metavar="S",
        help=f"seeds of the better half; the others have {FIRST_SEEDS} (default: {SEEDS})",
    )
    for name in ("time_budget", "out", *ON_WHAT, "debug"):
        add(flag(name), **shared[name])
    return parser


def _command(arguments: dict[str, Any], began: float) -> int:
    import optuna
    from rich.console import Console

    from results.members import find_run

    console = Console(highlight=False, markup=False)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return confirm(find_run(arguments["run"], arguments["out"] or Path("runs")), arguments, console, began)


def confirm(run: Path, given: Mapping[str, Any], console: "Console", began: float) -> int:
    """Confirms a run, or goes on with that, and returns the exit code. Holds the run's lock.

    Args:
        run: its folder, with a run.json.
        given: `top`, `seeds`, `time_budget` and the options of ON_WHAT; None where one was not given.
        began: time.monotonic() at the command's start, from which the time budget counts.
    Raises:
        UserError: where the run cannot be confirmed, or not as asked.
    """
    from search import record
    from search.labelled import labelled_again
    from search.session import CLOSING_SECONDS, START_SECONDS, say_out_of_time

    with record.lock(run):
        said = record.stored(run)
        assert said is not None  # there is a run.json
        record.check_search(said, run, "RUN")
        plan = _plan(run, said, given)
        cache, columns = Path(said["data"]["cache"]), said["arguments"]["inputs"]
        sizes = {
            size: labelled_again(run, said, columns, size, cache, "RUN")
            for size in sorted({config.image_size for config in plan.configurations.values()})
        }
        data = next(iter(sizes.values()))  # they differ in their pixels alone
        if data.split_fingerprint != said["data"]["split_fingerprint"]:
            raise UserError(f"RUN: {run / record.SPLITS} is not the split that {run} was made with.")
        (run / CONFIRM).mkdir(exist_ok=True)
        write_json(run / CONFIRM / "plan.json", plan.to_json())
        names, trainings, failed = list(plan.configurations), list[Training](), 0
        for number, repeats in enumerate(tiers(plan.seeds), start=1):
            space = tier_space(plan, names, said["objective"])
            options = _tier_options(run, said, space, number, repeats, given)
            budget = options.time_budget
            if number > 1 and budget and began + budget - time.monotonic() < START_SECONDS + CLOSING_SECONDS:
                say_out_of_time(options, console)
                return 0
            code, failures, done = _train(options, space, sizes, console, began)
            trainings += done
            failed += failures
            if code or failures + len(done) < options.trials:
                return code
            names = promoted(plan, trainings)
        found = _found(plan, trainings, said["seed"], len(data.split.judged))
        write_json(run / "confirm.json", {"top": plan.top, "seeds": plan.seeds, "format": FORMAT, **_facts(found)})
    _show(run, found, console)
    return FAILED_TRIALS if failed else 0


def tiers(seeds: int) -> tuple[int, ...]:
    """How many seeds each tier has."""
    return (seeds,) if seeds <= ONE_TIER else (FIRST_SEEDS, seeds - FIRST_SEEDS)


def _plan(run: Path, said: Mapping[str, Any], given: Mapping[str, Any]) -> Plan:
    """What was chosen when the confirmation began, or is to be chosen now."""
    from search.record import begun

    path = run / CONFIRM / "plan.json"
    if not begun(run / CONFIRM / "1"):
        return choose(run, said, given["top"] or TOP, given["seeds"] or SEEDS)
    anew = f"move {run / CONFIRM} away to begin anew"
    try:
        plan = Plan.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is missing or damaged ({error}); restore it from a copy, or {anew}.") from None
    for option in ("top", "seeds"):
        then = getattr(plan, option)
        if given[option] not in (None, then):
            raise UserError(
                f"--{option}: {run} is being confirmed with {then}, not {given[option]}; keep that, or {anew}."
            )
    return plan


def choose(run: Path, said: Mapping[str, Any], top: int, seeds: int) -> Plan:
    """The best configurations of a search as it stands, and the default.

    Raises:
        UserError: where no trial ran its course, or where the space is not what it was.
    """
    from results.confirmation import DEFAULT
    from results.leaderboard import read_metrics
    from search.study import Settings, stored_trials, trial_name
    from spaces.loading import load
    from spaces.space import Given, fingerprint
    from trainable.config import TrialConfig
    from trainable.fit import merit

    arguments, objective = said["arguments"], said["objective"]
    inputs, size = tuple(arguments["inputs"]), arguments["image_size"]
    groups: dict[str, list[FrozenTrial]] = {}  # trials by configuration
    for trial in stored_trials(run):
        if "config" in trial.user_attrs and trial.state.name != "FAIL":
            groups.setdefault(_apart_from_seed(TrialConfig.from_dict(trial.user_attrs["config"])), []).append(trial)
    ranked = []
    for key, trials in groups.items():
        found = [
            read_metrics(run / "trials" / trial_name(t.number) / "metrics.csv")
            for t in trials
            if t.state.name == "COMPLETE"
        ]
        bests = [max(rows, key=lambda row: merit(row, objective)) for rows in found if rows]
        if bests:
            merits = [merit(best, objective) for best in bests]
            mean = tuple(-sum(part) / len(bests) for part in zip(*merits, strict=True))
            ranked.append((mean, trials[0].number, key, sum(best["valid_accuracy"] for best in bests) / len(bests)))
    if not ranked:
        raise UserError(f"{run}: no trial has run its course yet, so there is nothing to confirm.")
    ranked.sort()
    space = load(arguments["space"], Given(inputs, arguments["target"], size))
    if fingerprint(space) != said["space"]["fingerprint"]:
        raise UserError(
            f"the space '{arguments['space']}' has changed since {run} was made: its default is another now."
        )
    settings = Settings(arguments["epochs"], size, inputs, arguments["target"], objective, said["seed"])
    default, searched = default_of(space, arguments["sampler"], settings)
    names, configurations, shown = {}, {}, {}
    for _, number, key, _ in ranked[:top]:
        names[key] = name = trial_name(number)
        configurations[name] = TrialConfig.from_dict(groups[key][0].user_attrs["config"])
        shown[name] = groups[key][0].params
    default_name = names.get(_apart_from_seed(default), DEFAULT)
    if default_name == DEFAULT:
        configurations[DEFAULT], shown[DEFAULT] = default, searched
    winner = next(iter(configurations))
    return Plan(top, seeds, winner, ranked[0][-1], len(groups), default_name, configurations, shown)


def _apart_from_seed(config: "TrialConfig") -> str:
    """What two trials share that differ in their seed alone."""
    return json.dumps(replace(config, seed=0).to_dict(), sort_keys=True)


def default_of(space: "Space", sampler: str, settings: "Settings") -> "tuple[TrialConfig, dict[str, Any]]":
    """A space's default: its first known start, completed as the search does, else the report's network. And the
    values of its parameters, where it has any."""
    import optuna

    from search.samplers import SAMPLERS
    from search.study import configured
    from trainable.config import TrialConfig

    if not space.starts:
        return TrialConfig(**asdict(settings)), {}
    study = optuna.create_study(sampler=SAMPLERS[sampler].build(settings.seed, 0))
    study.enqueue_trial(dict(space.starts[0]))
    trial = study.ask()
    return configured(space, trial, settings, settings.seed), trial.params


def tier_space(plan: Plan, names: Sequence[str], objective: Any) -> "Space":
    """The grid over the configurations called `names`."""
    from spaces.space import MAY_DECIDE, Space
    from trainable.config import TrialConfig

    # What the run decides, Space leaves at its default.
    run = TrialConfig()
    configs = {
        name: replace(plan.configurations[name], epochs=run.epochs, objective=run.objective, seed=run.seed)
        for name in names
    }

    def sample(trial: "optuna.Trial") -> TrialConfig:
        return configs[trial.suggest_categorical("configuration", list(configs))]

    return Space(
        name=CONFIRM,
        summary="the best configurations of a search, and its default",
        sample=sample,
        grid={"configuration": list(configs)},
        objective=objective,
        sampler="grid",
        scheduler="none",
        decides=MAY_DECIDE,
        image_sizes=sorted({config.image_size for config in configs.values()}),
    )


def _tier_options(
    run: Path, said: Mapping[str, Any], space: "Space", number: int, repeats: int, given: Mapping[str, Any]
) -> Options:
    """A tier as a run: the search's settings, but for its space, and a seed of its own, which no trial's can be."""
    import numpy as np

    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in said["arguments"].items()}
    settings |= {name: given[name] for name in ("time_budget", *ON_WHAT) if given[name] is not None}
    seed = int(np.random.SeedSequence([said["seed"], number, 2]).generate_state(1)[0])
    own = {"space": CONFIRM, "sampler": "grid", "scheduler": "none", "repeats": repeats, "seed": seed}
    own |= {"trials": None, "audit": None}
    where = {"name": str(number), "out": run / CONFIRM, "cache": Path(said["data"]["cache"])}
    return resolve({**settings, **own, **where}, space)


def _train(
    options: Options, space: "Space", sizes: "Sizes", console: "Console", began: float
) -> tuple[int, int, list[Training]]:
    """Trains what a tier lacks and writes its leaderboard. Returns the exit code, how many trials failed, and the rest
    of those that ended."""
    from results.leaderboard import leaderboard, write_leaderboard
    from search.record import entered
    from search.run import say_failed, train_left

    with entered(options, space, next(iter(sizes.values()))):
        study, code = train_left(options, space, sizes, 0, console, began)
        table = leaderboard(options.run, study.frozen(), space.objective, sizes)
        write_leaderboard(options.run, table)
    rows = {row["trial"]: row for row in table.to_dict("records") if row["state"] == "COMPLETE"}
    trainings = [
        Training(
            row["configuration"],
            study.frozen()[int(trial)].user_attrs["config"]["seed"],
            float(row["valid_accuracy"]),
            int(row["epochs"]),
            float(row["seconds"]),
            int(row["parameters"]),
        )
        for trial, row in sorted(rows.items())
    ]
    return code, say_failed(options, study, console), trainings


def promoted(plan: Plan, trainings: Sequence[Training]) -> list[str]:
    """The configurations that the next tier trains: the better half by mean accuracy, the default and the winner."""
    accuracies: dict[str, list[float]] = {}
    for one in trainings:
        accuracies.setdefault(one.configuration, []).append(one.accuracy)
    ran = [name for name in plan.configurations if name in accuracies]
    ranked = sorted(ran, key=lambda name: -sum(accuracies[name]) / len(accuracies[name]))
    kept = {*ranked[: (len(ranked) + 1) // 2], plan.default, plan.winner}
    return [name for name in ran if name in kept]


def _found(plan: Plan, trainings: Sequence[Training], seed: int, images: int) -> "Confirmation":
    import numpy as np

    from results.confirmation import Searched, Tried, confirmation

    tried: list[Tried] = []
    for name in plan.configurations:
        own = [one for one in trainings if one.configuration == name]
        if own:
            epoch = sum(one.seconds for one in own) / sum(one.epochs for one in own)
            accuracies = {one.seed: one.accuracy for one in own}
            tried.append(Tried(name, plan.settings[name], accuracies, epoch, own[0].parameters))
    searched = Searched(plan.winner, plan.accuracy, plan.compared)
    return confirmation(tried, searched, plan.default, images, np.random.default_rng(seed))


def _facts(found: "Confirmation") -> dict[str, Any]:
    from results.confirmation import sentences

    return {**asdict(found), "sentences": sentences(found)}


def _show(run: Path, found: "Confirmation", console: "Console") -> None:
    from results.confirmation import render, sentences

    console.print()
    console.print(render(found))
    for sentence in sentences(found):
        console.print(sentence, soft_wrap=True)
    console.print(f"Wrote {run / 'confirm.json'}", soft_wrap=True)
    console.print(f"Next: python -m search.ensemble {shlex.quote(str(run))}", soft_wrap=True)


if __name__ == "__main__":
    # While data is read or Ray starts, too, a SIGTERM ends the command in order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))
    sys.exit(main())
