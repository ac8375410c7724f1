"""Search spaces: a file each, found by its name. `space.py` says what a space is, `loading.py` finds it."""

from typing import Literal

# What a space may name, and the command line too: here, because --help must not wait for Optuna.
Sampler = Literal["tpe", "random", "grid", "gp", "cmaes", "qmc"]
Scheduler = Literal["asha", "median", "none"]
