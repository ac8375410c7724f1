"""Whether a confirmation says the truth, on simulated searches of which it is known: nothing is trained.

    python -m benchmarks.confirm_simulation --out confirm_simulation.json

Of 24 configurations whose true accuracies are normal and which were trained once, the 8 that looked best are trained
again, in the two tiers of `search.confirm`. What is asked: does the interval of the search's winner, and that of the
best now, cover the truth in 93 to 97 of 100 searches; and is the bias of what the best now is said to be worth under a
tenth of that of a search's own best accuracy, whether configurations differ by nothing or by twice as much as trainings
of one do. There is no peer.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.figures import Figure, Goal, Machine, finish, parser
from results.confirmation import Searched, Tried, confirmation
from search.confirm_plan import FIRST_SEEDS, tiers

NOISE = 0.02  # one deviation of a training's accuracy; the level at which nothing depends on it
IMAGES = 10_000  # of validation
RATIOS = (0.0, 0.25, 0.5, 1.0, 2.0)  # of the deviation of the true accuracies to the noise


@dataclass(frozen=True)
class Replay:
    """What one search and its confirmation said, less the truth."""

    naive: float  # the search's best accuracy
    winner: float  # the mean of its winner's fresh seeds
    winner_covered: bool  # whether the interval of that mean holds the truth
    raw: float  # the mean of the best now
    worth: float  # what it is said to be worth
    worth_covered: bool


def replay(rng: np.random.Generator, ratio: float, searched: int, top: int, seeds: int) -> Replay:
    """One search and its confirmation."""
    truths = rng.normal(0.6, ratio * NOISE, searched)
    looked = rng.normal(truths, NOISE)
    chosen = np.argsort(-looked)[:top]
    trained = rng.normal(truths[chosen, None], NOISE, (top, seeds))
    longest = list(range(top))
    if len(tiers(seeds)) > 1:  # as `promoted`: the better half and the search's winner
        longest = sorted({0, *np.argsort(-trained[:, :FIRST_SEEDS].mean(1))[: (top + 1) // 2].tolist()})
    tried = []
    for place in range(top):
        own = trained[place, : seeds if place in longest else FIRST_SEEDS].tolist()
        tried.append(Tried(str(place), {}, dict(enumerate(own)), 1.0, 1))
    found = confirmation(tried, Searched("0", float(looked[chosen[0]]), searched), "0", IMAGES, rng)
    winner = found.row("0")
    assert winner is not None
    truth, best = float(truths[chosen[0]]), found.best
    true_best = float(truths[chosen[int(best.tried.name)]])
    return Replay(
        naive=float(looked[chosen[0]]) - truth,
        winner=winner.fresh.value - truth,
        winner_covered=winner.fresh.low <= truth <= winner.fresh.high,
        raw=best.fresh.value - true_best,
        worth=best.worth.value - true_best,
        worth_covered=best.worth.low <= true_best <= best.worth.high,
    )


def main() -> None:
    machine = Machine.now()
    command = parser(__doc__)
    command.add_argument("--replays", type=int, default=1000, help="searches at each spread (default: %(default)s)")
    command.add_argument("--searched", type=int, default=24, help="configurations of a search (default: %(default)s)")
    command.add_argument("--top", type=int, default=8, help="confirmed ones (default: %(default)s)")
    command.add_argument("--seeds", type=int, default=5, help="of the better half (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of all draws (default: %(default)s)")
    arguments = command.parse_args()
    if not 2 <= arguments.top <= arguments.searched:
        command.error(f"--top: {arguments.top} is not a number from 2 to --searched, {arguments.searched}.")

    figures, details = [], []
    for ratio in RATIOS:
        rng = np.random.default_rng([arguments.seed, int(100 * ratio)])
        replays = [
            replay(rng, ratio, arguments.searched, arguments.top, arguments.seeds) for _ in range(arguments.replays)
        ]
        means = {name: float(np.mean([vars(one)[name] for one in replays])) for name in vars(replays[0])}
        errors = {name: float(np.std([vars(one)[name] for one in replays])) for name in vars(replays[0])}
        details.append({"ratio": ratio, "means": means, "deviations": errors})
        what, n = f"spread {ratio:g} times the noise", len(replays)
        for name, said in (("winner", "the search's winner"), ("worth", "the best now")):
            covered = means[f"{name}_covered"]
            figures += [
                Figure(f"{what}: interval of {said} covers, share", covered, n, goal=Goal("ours", ">=", 0.93)),
                Figure(f"{what}: the same, from above", covered, n, goal=Goal("ours", "<=", 0.97)),
            ]
        bias = abs(means["worth"]) / means["naive"]
        figures += [
            Figure(f"{what}: bias of the best now, of the naive one's", bias, n, goal=Goal("ours", "<=", 0.1)),
            Figure(f"{what}: the same without shrinking", means["raw"] / means["naive"], n),
        ]
    finish("confirm_simulation", machine, figures, details, arguments.out)


if __name__ == "__main__":
    main()
