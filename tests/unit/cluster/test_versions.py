"""From which k3s release to which a cluster may go: said by Python, and by the node before anything is replaced."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from actions.cluster import versions
from tests.unit.cluster.test_k3s_files import K3S, Node

OLD = "v1.32.0+k3s1"
STEPS = [
    (OLD, ""),
    ("v1.32.0+k3s2", ""),
    ("v1.32.11+k3s1", ""),
    ("v1.33.0+k3s1", ""),
    ("v1.33.9+k3s1", ""),
    ("v1.34.0+k3s1", "Say a release of v1.33 first"),
    ("v1.36.5+k3s1", "Say a release of v1.33 first"),
    ("v1.31.14+k3s1", "Kubernetes does not go back"),
    ("v1.9.14+k3s1", "Kubernetes does not go back"),
]


@pytest.mark.parametrize(("new", "says"), STEPS)
def test_one_minor_version_at_a_time_and_never_back(new: str, says: str) -> None:
    found = versions.why_not(OLD, new)
    assert (says in found, bool(found)) == (True, bool(says))


def test_a_former_patch_or_build_is_a_step_back_too() -> None:
    assert "does not go back" in versions.why_not("v1.32.10+k3s1", "v1.32.9+k3s1")
    assert "does not go back" in versions.why_not("v1.32.9+k3s2", "v1.32.9+k3s1")


def test_what_is_no_release_is_not_judged() -> None:
    assert versions.why_not("v1.32.0-rc1", "v1.36.5+k3s1") == ""


@pytest.mark.parametrize(
    ("istio", "oldest"),
    [("1.30.5", (1, 32)), ("1.31.0", (1, 32)), ("1.30-alpha.20260826", (1, 32)), ("1.28.0", (1, 32))],
)
def test_what_istio_needs(istio: str, oldest: tuple[int, int]) -> None:
    assert versions.oldest_for(istio) == oldest


@pytest.fixture
def node(tmp_path: Path) -> Node:
    """A server that runs the old release."""
    return running(tmp_path, "server", "server/db")


def running(folder: Path, role: str, data: str) -> Node:
    made = Node.make(folder, role)
    assert made.run().returncode == 0
    made.file(f"/var/lib/rancher/k3s/{data}").mkdir(parents=True)
    made.calls("systemctl")
    return made


def upgraded(node: Node, new: str) -> Node:
    binary = Path(node.spec.binary.path or "")
    binary.write_text(K3S.replace(OLD, new))
    Node.sums(binary.parent)
    node.spec = dataclasses.replace(node.spec, version=new)
    return node


@pytest.mark.parametrize(("new", "says"), STEPS)
def test_a_node_says_the_same_before_anything_is_replaced(node: Node, new: str, says: str) -> None:
    ran = upgraded(node, new).run()
    runs = node.file("/usr/local/bin/k3s").read_text()
    assert ran.returncode == (1 if says else 0), ran.stderr
    assert (OLD if says else new) in runs
    if says:
        assert ran.stderr == f"node: cluster.version: {new}: {versions.why_not(OLD, new)}\n"
        assert node.calls("systemctl") == []


def test_an_agent_says_so_too(tmp_path: Path) -> None:
    ran = upgraded(running(tmp_path, "agent", "agent/kubelet.kubeconfig"), "v1.36.5+k3s1").run()
    assert "Say a release of v1.33 first" in ran.stderr


def test_a_node_that_has_never_run_may_get_any_release(tmp_path: Path) -> None:
    node = Node.make(tmp_path, "agent")
    assert node.run().returncode == 0
    assert upgraded(node, "v1.36.5+k3s1").run().returncode == 0
