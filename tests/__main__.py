"""Runs pytest, whose arguments it takes, and ends as commands do: several Rays in one process crash it now and then."""

import pytest

from search.cli import leave

if __name__ == "__main__":  # and not in each process that a test has spawned
    leave(int(pytest.main()))
