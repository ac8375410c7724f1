"""The epochs at which the search compares trials to stop the weak ones."""

REDUCTION_FACTOR = 3


def grace_period(epochs: int) -> int:
    """Epochs that every trial gets: a quarter of them, at least one. After the very first epochs differences between
    configurations are smaller than those between seeds, so an earlier rung would stop trials by chance."""
    return max(1, epochs // 4)


def rungs(epochs: int) -> list[int]:
    """The epochs at which ASHA compares: the grace period times powers of the reduction factor, below the end."""
    found = [grace_period(epochs)]
    while found[-1] * REDUCTION_FACTOR < epochs:
        found.append(found[-1] * REDUCTION_FACTOR)
    return [rung for rung in found if rung < epochs]
