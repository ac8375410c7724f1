"""A Ray that tests join."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ray_head(mode: str) -> Iterator[str]:
    """The address of a Ray of two CPUs that lives meanwhile. Args: mode: of authentication, token or disabled."""
    options = "--head --block --port=0 --num-cpus=2 --num-gpus=0 --include-dashboard=false --disable-usage-stats"
    head = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", *options.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "RAY_AUTH_MODE": mode},
    )
    assert head.stdout is not None
    try:
        said = ""
        while "--block" not in said:  # the last paragraph, once all is up
            line = head.stdout.readline()
            assert line, said
            said += line
        found = re.search(r"ray start --address=.([0-9.:]+)", said)
        assert found, said
        yield found[1]
    finally:
        head.terminate()  # with --block it ends what it started
        head.communicate()
