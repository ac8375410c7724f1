"""Whether trials can be trained on each node of a cluster: asked before the first one starts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from trainable.errors import UserError
from trainable.keeper import CACHE
from trainable.node import described, difference, versions

ANSWER_SECONDS = 120.0  # a node may have to unpack the code and start a worker first


def check_nodes(nodes: list[dict[str, Any]], pixels: Mapping[Path, int]) -> None:
    """Asks nodes what they have.

    Args:
        nodes: as Ray tells of them.
        pixels: the bytes of each file of decoded images, by its path here; a node that has it not there has to keep it.
    Raises:
        UserError: which names the node, where one has other versions than this, a disk that is too small or cannot be
            written, or does not answer.
    """
    ask, here = ray.remote(described), versions()
    answers = [
        ask.options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(CACHE, pixels)
        for node in nodes
    ]
    for address, answer in zip([node["NodeManagerAddress"] for node in nodes], answers, strict=True):
        try:
            node = ray.get(answer, timeout=ANSWER_SECONDS)
        except GetTimeoutError:
            raise UserError(f"Node {address} does not answer; mend it, or take it out of the cluster.") from None
        except (RayTaskError, RayError) as error:
            why = str(error).strip().rpartition("\n")[2]
            raise UserError(f"Node {address} cannot run this program ({why}); take it out of the cluster.") from None
        differs = difference(here, node.versions)
        if differs is not None:
            raise UserError(f"Node {address} {differs}: install the same there, or take it out of the cluster.")
        if node.fault is not None:
            raise UserError(f"Node {address} {node.fault}: mend that, or take it out of the cluster.")
        if node.free < node.lacks:
            raise UserError(
                f"Node {address} has {node.free / 1e9:.1f} GB free in {CACHE}, and the images need "
                f"{node.lacks / 1e9:.1f} GB: make room there, or take it out of the cluster."
            )
