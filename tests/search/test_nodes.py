"""Nodes are asked before anything is trained. Each is a real one of a Ray with two."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from search import cluster as clusters
from search import nodes
from search.cluster import Resources
from search.nodes import check_nodes
from trainable.errors import UserError
from trainable.keeper import CACHE
from trainable.node import versions

PIXELS = {Path("/nowhere/a.npy"): 1000}


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def test_nodes_like_this_one_pass(two: Cluster) -> None:
    check_nodes(ray.nodes(), PIXELS)


def test_another_version_is_told_with_the_node(two: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "versions", lambda: versions() | {"torch": "0.1"})
    address = ray.nodes()[0]["NodeManagerAddress"]
    said = f"Node {address} has torch {versions()['torch']}, and the driver's node 0.1: install the same there, or take"
    with pytest.raises(UserError, match=f"^{said} it out of the cluster.$"):
        check_nodes(ray.nodes(), PIXELS)


def test_a_disk_that_is_too_small_is_told_with_the_node(two: Cluster) -> None:
    address = ray.nodes()[0]["NodeManagerAddress"]
    said = (
        rf"Node {address} has [\d.]+ GB free in {CACHE}, and the images need 1000000000\.0 GB: make room there, or take"
    )
    with pytest.raises(UserError, match=f"^{said} it out of the cluster.$"):
        check_nodes(ray.nodes(), {Path("/nowhere/a.npy"): 10**18})


def test_a_node_that_cannot_write_is_told(two: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "CACHE", Path("/proc/none"))
    address = ray.nodes()[0]["NodeManagerAddress"]
    said = rf"Node {address} cannot write into /proc \(No such file or directory\): mend that, or take it out of the"
    with pytest.raises(UserError, match=f"^{said} cluster.$"):
        check_nodes(ray.nodes(), PIXELS)


def test_where_all_nodes_share_the_drivers_cache_none_needs_its_own(
    two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nodes, "CACHE", Path("/proc/none"))
    (tmp_path / "a.npy").write_bytes(b"pixels")
    check_nodes(ray.nodes(), {tmp_path / "a.npy": 6})
    with pytest.raises(UserError, match="cannot write into /proc"):
        check_nodes(ray.nodes(), {tmp_path / "a.npy": 7})  # another file of the name


def test_too_little_memory_for_all_trials_is_told_of_each_node(two: Cluster) -> None:
    crowded = clusters.Cluster(Resources(0.005, 0), None, None, None).crowded(1000)  # 200 trials on each
    memory = [node["Resources"]["memory"] / 1e9 for node in ray.nodes()]
    address = ray.nodes()[0]["NodeManagerAddress"]
    assert crowded == [
        f"node {address} has {gigabytes:.1f} GB of memory for 200 trials at once, each of which takes 0.5 GB or more: "
        "have fewer by --max-concurrent, or give more --cpus-per-trial."
        for gigabytes in memory
    ]
    assert clusters.Cluster(Resources(0.005, 0), None, None, None).crowded(1) == []  # however many would fit
    assert clusters.Cluster(Resources(1, 0), None, None, None).crowded(1000) == []


def test_a_node_that_is_gone_is_told(two: Cluster) -> None:
    gone = {**ray.nodes()[0], "NodeID": "0" * 56, "NodeManagerAddress": "10.9.9.9"}
    with pytest.raises(
        UserError, match=r"^Node 10\.9\.9\.9 cannot run this program \(.*\); take it out of the cluster\.$"
    ):
        check_nodes([gone], PIXELS)
