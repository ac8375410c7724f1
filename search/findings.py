"""What there is to say of runs, for the report, and what is useful after it."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from results.facts import Facts, gather
from results.tree import check_tree
from search.options import CONFIRM, flag
from search.record import begun, check_search, stored
from search.study import watched_trials
from trainable import named
from trainable.errors import UserError
from trainable.table import count


def read(run: Path) -> Facts:
    """All that there is to say of a run, which may be under way.

    Raises:
        UserError: where it cannot be read, or is a part of another's confirmation; or as `check_tree` does.
    """
    check_tree(run)
    record = stored(run)
    assert record is not None  # `find_run` has seen its run.json
    check_search(record, run, "RUN")
    facts = gather(run, record, watched_trials(run))
    whole = facts.confirmation is not None and facts.confirmation.get("whole", True)
    return facts if whole else replace(facts, confirming=_how_far(run / CONFIRM))


def read_all(runs: Sequence[Path]) -> list[Facts]:
    """What there is to say of several runs; those of one name are told apart by the folders that they are in.

    Raises:
        UserError: as `read` does.
    """
    found = [read(run) for run in runs]
    for parents in (1, 2, 3):  # as many of the folders as tell them apart
        names = [facts.name for facts in found]
        found = [
            replace(facts, name="/".join(facts.run.resolve().parts[-1 - parents :]))
            if names.count(facts.name) > 1
            else facts
            for facts in found
        ]
    return found


def following(facts: Facts) -> tuple[str, str]:
    """What is useful next, in words and as a command."""
    run = shlex.quote(str(facts.run))
    if facts.confirming is not None:
        return "If it has stopped, go on with:", f"python -m search.confirm {run}"
    if not facts.ended:
        folder = facts.run.resolve().parent if facts.run.name != facts.run.resolve().name else facts.run.parent
        out = "" if folder == Path("runs") else f" --out {shlex.quote(str(folder))}"
        asked = "".join(session.get("asked", "") for session in facts.record["sessions"][-1:])
        then, elsewhere = _then(asked)
        return (
            f"If it has stopped, go on with{' (on a cluster, with its --address)' if elsewhere else ''}:",
            f"python -m search.run --resume {shlex.quote(facts.run.resolve().name)}{out}{then}",
        )
    if not facts.compared:
        search = f"--space {_space(facts)} --data {shlex.quote(facts.record['arguments']['data'])}"
        return "Mend that, and search again under another name:", f"python -m search.run {search} --name NAME"
    if facts.confirmation is None and not facts.repeated and facts.compared > 1:
        return "Next, train the best again with fresh seeds:", f"python -m search.confirm {run}"
    if facts.ensemble is None:
        return "Next, combine the best:", f"python -m search.ensemble {run}"
    return "Make the ensemble again, to check it:", f"python -m search.ensemble --verify {run}/ensemble.json"


def _space(facts: Facts) -> str:
    """The space that was searched, for a command; of a file that this user has not named on this machine not which."""
    try:
        return shlex.quote(named.chosen(facts.run, facts.record, {}, "space")["space"])
    except UserError:
        return "FILE"


def _then(asked: str) -> tuple[str, bool]:
    """What a run's record says of what comes after the search, as options with a space before each; and whether it was
    on a cluster. Somebody else may have made the record: it does not say to whom this user's token goes, whose code is
    run and where anything is written, and a shell takes none of it for a command.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in ("confirm", "ensemble"):
        parser.add_argument(flag(name), action="store_true")
    for name in ("test", "address"):
        parser.add_argument(flag(name))
    try:
        said, _ = parser.parse_known_args(shlex.split(asked))
    except (ValueError, argparse.ArgumentError):  # a quote without its end, an option without its value
        return "", False
    then = "".join(f" {flag(name)}" for name in ("confirm", "ensemble") if getattr(said, name))
    if said.test is not None:
        then += f" --test={shlex.quote(said.test)}"
    return then, said.address is not None


def _how_far(confirmation: Path) -> str | None:
    """What a confirmation has trained, in words; None where none has begun."""
    if not (confirmation / "plan.json").exists():
        return None
    tiers = [tier for number in (1, 2) if begun(tier := confirmation / str(number))]
    if not tiers:
        return "nothing trained yet"
    record = stored(tiers[-1])
    assert record is not None  # it has begun
    done = sum(trial.state.is_finished() for trial in watched_trials(tiers[-1]))
    return f"{done} of {count(record['arguments']['trials'], 'training')} of tier {len(tiers)} done"
