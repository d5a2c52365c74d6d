"""What the cluster says right now of the stack's nodes and of its VMs as members of the mesh; read-only."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from components.kube import ApiCluster, ApiObject, KubeError
from components.workloads import entry as workload_entry
from ops.errors import one_line

ISTIOD_PODS = ("/api/v1/namespaces/istio-system/pods", "app=istiod")
"""Path and labels of every istiod's pods."""


@dataclass(frozen=True)
class Live:
    """One look at the cluster.

    Attributes:
        nodes: every node that there should be, and why it is not Ready; None when it is.
        members: every VM, and why it is not a healthy member; None when it is one.
        unreachable: why the cluster does not answer; empty when it does.
        problems: what could not be put right.
        proof: evidence of traffic that is newer than the stack's outputs.
    """

    nodes: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    members: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    unreachable: str = ""
    problems: Sequence[str] = ()
    proof: Sequence[Mapping[str, Any]] | None = None

    @property
    def healthy(self) -> bool:
        """Every node Ready, every member healthy, and nothing else wrong."""
        return not self.amiss and not self.problems

    @property
    def amiss(self) -> list[str]:
        """What is not as it should be in the cluster, a line each."""
        seen = [self.unreachable] if self.unreachable else []
        return [*seen, *_lines(self.nodes, "not Ready"), *_lines(self.members, "not healthy")]


def _lines(states: Mapping[str, str | None], word: str) -> Iterator[str]:
    return (f"{name} is {word}: {why}" for name, why in states.items() if why)


def look(outputs: Mapping[str, Any]) -> Live:
    """Ask the cluster for nodes and the members' health.

    Args:
        outputs: what the stack exports.
    """
    names = [name for name in outputs["machines"] if name not in outputs["vms"]]
    try:
        cluster = ApiCluster(outputs["kubeconfig"])
        with ThreadPoolExecutor() as pool:
            listed = pool.submit(cluster.items, "/api/v1/nodes")
            istiods = pool.submit(cluster.items, *ISTIOD_PODS)
            found = {name: pool.submit(cluster.get, _entry_path(vm)) for name, vm in outputs["vms"].items()}
        nodes = {node["metadata"]["name"]: node for node in listed.result()}
        pods = {pod["metadata"]["name"] for pod in istiods.result()}
        members = {name: why_unhealthy(one.result(), pods) for name, one in found.items()}
    except KubeError as error:
        return Live(unreachable=str(error))
    return Live({name: why_not_ready(nodes.get(name)) for name in names}, members)


def _entry_path(vm: Mapping[str, Any]) -> str:
    return workload_entry.path(vm["namespace"], vm["workloadEntry"])


def why_not_ready(node: ApiObject | None) -> str | None:
    """Why a node is not Ready, or None when it is."""
    if node is None:
        return "it is not in the cluster"
    conditions = node.get("status", {}).get("conditions", [])
    ready = next((condition for condition in conditions if condition["type"] == "Ready"), {})
    return None if ready.get("status") == "True" else one_line(ready.get("message") or "no reason given")


def why_unhealthy(found: ApiObject | None, istiods: Collection[str]) -> str | None:
    """Why a VM is not a healthy member, or None when it is one.

    An entry outlives its VM for a while and says Healthy all along; so does its connection outlive the istiod that held it.

    Args:
        found: its WorkloadEntry.
        istiods: the names of the istiod pods that there are.
    """
    if found is None:
        return "no WorkloadEntry"
    entry = workload_entry.parse(found)
    if not entry.connected_at:
        return "no connection to istiod"
    if entry.controller not in istiods:
        return f"no connection to istiod: its own, pod {entry.controller}, is gone"
    if entry.healthy is None:
        return "no health report yet"
    return None if entry.healthy else one_line(entry.message or "no reason given")
