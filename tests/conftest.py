"""What holds for every test."""

import atexit
import os
import shutil
import tempfile

import pytest
import torch

# Without a card Triton's kernels run in its interpreter; triton reads this when it is first imported, by whomever.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# Ray would join, unasked, whatever Ray is on this machine where a test asks it for something before it has its own.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

# What tests name on a command line is noted apart from what the user of this machine has named.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="convsearch-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that fork come first: threads that are left of a Ray in this process may abort a fork."""
    items.sort(key=lambda item: item.get_closest_marker("forks") is None)
