"""A head that does not answer any more ends the command, whatever its main thread waits for."""

import socket
import subprocess
import sys
import time

from rich.console import Console

from search import head
from search.head import head_watched

PATIENCE = 1.0
WAITS = f"""
import sys, time
from rich.console import Console
from search import head
head.CHECK_SECONDS, head.PATIENCE_SECONDS = 0.1, {PATIENCE}
with head.head_watched(sys.argv[1], "Mend it.", Console()):
    print("watches", flush=True)
    time.sleep(float(sys.argv[2]))
print("done")
"""


def listener(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def address_of(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_command_whose_head_is_gone_ends_with_a_sentence_and_code_1() -> None:
    server = listener()
    address = address_of(server)
    command = [sys.executable, "-c", WAITS, address, "60"]
    with server, subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "watches\n"
        server.close()
        said = process.communicate(timeout=30)[0]
    assert said == f"Stopped: the head of the cluster, {address}, does not answer any more. Mend it.\n"
    assert process.returncode == 1


def test_a_head_that_is_back_in_time_is_well() -> None:
    server = listener()
    address = address_of(server)
    command = [sys.executable, "-c", WAITS, address, str(3 * PATIENCE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "watches\n"
        server.close()
        time.sleep(PATIENCE / 4)
        with listener(int(address.rpartition(":")[2])):
            assert process.communicate(timeout=30)[0] == "done\n"
    assert process.returncode == 0


def test_a_ray_of_this_machine_alone_is_not_watched() -> None:
    with head_watched(None, "", Console()):
        pass
    assert head.PATIENCE_SECONDS < 60
