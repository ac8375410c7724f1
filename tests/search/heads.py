"""A Ray that tests join."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ray._private.services import GCS_SERVER_EXECUTABLE


@contextmanager
def ray_head(mode: str) -> Iterator[str]:
    """The address of a Ray of two CPUs that lives meanwhile. Args: mode: of authentication, token or disabled."""
    options = "--head --block --port=0 --num-cpus=2 --num-gpus=0 --disable-usage-stats"
    less = "--include-dashboard=false --include-log-monitor=false"
    head = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", *options.split(), *less.split()],
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


@contextmanager
def ray_state(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address and the process of what is asked of a head, alone: it starts in a moment, and has no nodes.

    Args:
        folder: for its logs.
    """
    options = ["--config_list=e30=", "--gcs_server_port=0", "--node-ip-address=127.0.0.1", "--metrics-agent-port=0"]
    node = "ab" * 28
    server = subprocess.Popen(
        [GCS_SERVER_EXECUTABLE, *options, f"--log_dir={folder}", f"--session-dir={folder}", f"--node-id={node}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
    )
    port = folder / f"gcs_server_port_{node}"
    try:
        while not (port.exists() and port.read_text()):
            assert server.poll() is None
            time.sleep(0.01)
        yield f"127.0.0.1:{port.read_text()}", server
    finally:
        server.kill()
        server.wait()
