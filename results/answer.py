"""What a person should take away from a search, in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

from results.audit import stopped_text, verdict
from results.comparison import Compared, comparer
from results.facts import Facts
from results.settings import settings_text
from trainable.table import count

UNMOVED = ("grid", "qmc", "random")  # samplers that what was seen does not move


def answer(facts: Facts) -> list[str]:
    """What a person should take away, in sentences."""
    failed = _failed_sentences(facts)
    if not facts.compared:
        nothing = "No trial has finished an epoch yet, so there is nothing to rank."
        return failed if failed and facts.ended else [nothing, *failed]
    said = []
    if facts.repeated:
        said.append(_configurations_sentence(facts.configurations))
    elif facts.confirmation is not None:
        said += facts.confirmation["sentences"][:-1]  # the last says how the figures are meant: it stands at the table
    else:
        said.append(_best_sentence(facts))
    if facts.ensemble is not None:
        said.append(_ensemble_sentence(facts.ensemble))
    return [*said, *_effect_sentences(facts), *_stopped_sentences(facts), *failed]


def _best_sentence(facts: Facts) -> str:
    """The best of the trials, as the luckiest that it is."""
    best = facts.ranked.iloc[0]
    accuracy = float(best["valid_accuracy"])
    so_far = "" if facts.ended else "so far, "
    by = "" if facts.objective == "valid_accuracy" else f" by {facts.objective}"
    said = (
        f"{so_far}the best of {count(facts.compared, 'trial')}{by} is trial {best['trial']}: {100 * accuracy:.1f} ± "
        f"{100 * facts.error(accuracy):.1f} % on {facts.images} {facts.judged} (± one standard error over the images)."
    )
    if facts.compared > 1:
        said += " As the luckiest of so many it looks better than it is"
        said += ": confirm it before you believe it." if facts.ended else "."
    return said[0].upper() + said[1:]


def _stopped_sentences(facts: Facts) -> list[str]:
    """What early stopping saved, or what its audit says of that."""
    if facts.audit is not None:
        return [stopped_text(facts.audit), *verdict(facts.audit)]
    stopped = [curve for curve in facts.curves if curve.state == "PRUNED"]
    if not stopped:
        return []
    saved = sum(facts.epochs - len(curve.accuracies) for curve in stopped)
    return [
        f"{count(len(stopped), 'trial')} of {sum(facts.states.values())} were stopped early, which saved {saved} of "
        f"{saved + facts.spent} epochs."
    ]


def _failed_sentences(facts: Facts) -> list[str]:
    """How many trials failed, and why the first."""
    failed = facts.states.get("FAIL", 0)
    if not failed:
        return []
    trial, reason = next(iter(facts.reasons.items()), ("", "for a reason that is not recorded"))
    who = f"All {count(failed, 'trial')}" if failed == sum(facts.states.values()) > 1 else count(failed, "trial")
    return [f"{who} failed; the first, {trial}: {reason}."]


def _configurations_sentence(found: Sequence[Compared]) -> str:
    """The best configuration over seeds, and which are clearly worse."""
    best, *others = found
    compare = comparer(found)
    gaps = [(settings_text(one.settings), compare(one, best)) for one in others]
    worse = [f"{name} ({100 * gap.value:+.1f} ± {100 * gap.margin:.1f} points)" for name, gap in gaps if gap.clear]
    level = [name for name, gap in gaps if not gap.clear]
    said = (
        f"The best configuration over seeds is {settings_text(best.settings)}: {100 * best.mean:.1f} ± "
        f"{100 * best.error:.1f} % ({count(len(best.accuracies), 'seed')})."
    )
    if level:
        said += f" Not told apart from it: {', '.join(level)}."
    return said + (f" Worse beyond the noise: {', '.join(worse)}." if worse else "")


def _ensemble_sentence(manifest: Mapping[str, Any]) -> str:
    score = manifest["scores"][manifest["method"]]
    members = sum(member["weight"] > 0 for member in manifest["members"])
    n = manifest["holdout_images"]
    if manifest["method"] == "single":
        return (
            f"Of the ensembles none is better than the best single model: {_percent(score['accuracy'])} on {n} images."
        )
    gain = score["accuracy_gain"]
    verdict = " (inside the noise)" if gain["low"] <= 0 <= gain["high"] else ""
    return (
        f"The ensemble of {count(members, 'network')} ({manifest['method']}) has {_percent(score['accuracy'])} on {n} "
        f"{'out-of-fold' if manifest['folds'] else 'holdout'} images: {_points(gain)} points against the best single "
        f"model{verdict}."
    )


def _effect_sentences(facts: Facts) -> list[str]:
    found = facts.effects
    if found is None:
        return []
    clear = [effect for effect in found.effects if effect.clear]
    names = list(dict.fromkeys(effect.parameter for effect in found.effects))
    silent = [name for name in names if name not in {effect.parameter for effect in clear}]
    parts = [
        f"{effect.parameter} {effect.change}: {100 * effect.accuracy.value:+.1f} points "
        f"[{100 * effect.accuracy.low:+.1f}, {100 * effect.accuracy.high:+.1f}]"
        for effect in sorted(clear, key=lambda effect: -abs(effect.accuracy.value))
    ]
    if silent:
        along = "" if found.curved else " (numbers along a straight line)"
        parts.append(f"no effect shown of {', '.join(silent)}{along}")
    if found.too_many:
        parts.append(f"too few trials to tell the effect of {', '.join(found.too_many)}")
    end = "" if found.epoch >= facts.epochs else f" (of {facts.epochs}: what all of them reached)"
    chosen, sampler = "", facts.record["arguments"]["sampler"]
    if clear and sampler not in UNMOVED:
        chosen = f" Take these as hints: {sampler} chose the trials by what it had seen."
    return [f"After {count(found.epoch, 'epoch')}{end}, over {found.trials} trials: {'; '.join(parts)}.{chosen}"]


def _percent(estimate: Mapping[str, float]) -> str:
    return f"{100 * estimate['value']:.1f} % [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"


def _points(estimate: Mapping[str, float]) -> str:
    return f"{100 * estimate['value']:+.1f} [{100 * estimate['low']:+.1f}, {100 * estimate['high']:+.1f}]"
