"""What the cluster says right now of the stack's nodes and of its VMs as members of the mesh; read-only.

It is the quick part of `ops.status.look`, for those who look again and again.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address, ip_network
from typing import Any

from actions.kube import ApiCluster, ApiObject, KubeError, is_ready, ready_condition
from actions.workloads import entry as workload_entry
from ops.errors import one_line

ISTIOD_PODS = ("/api/v1/namespaces/istio-system/pods", "app=istiod")
"""Path and labels of every istiod's pods."""
ASKED = {
    "nodes": ("/api/v1/nodes",),
    "entries": ("/apis/networking.istio.io/v1/workloadentries",),
    "istiods": ISTIOD_PODS,
}
"""Paths and labels of what the cluster is asked for."""
PODS = "/api/v1/pods"
"""The path of all pods; only a cluster of the stack's own is asked for them."""
MISSING = "is not in the cluster"
"""What is wrong with a node that the cluster does not have."""
RENUMBERED = "has pods at addresses of another range than its own, which nobody reaches"
"""What is wrong with a node that was deleted, and came back with another range."""
NO_ENTRY, NO_CONNECTION, NO_REPORT = "no WorkloadEntry", "no connection to istiod", "no health report yet"


@dataclass(frozen=True)
class Renumbered:
    """A node that was given another range for its pods.

    Attributes:
        pod_range: the node's own now, as CIDR.
        former: the addresses of running pods that are of another.
    """

    pod_range: str
    former: Sequence[str]


@dataclass(frozen=True)
class Live:
    """One look at the cluster.

    Attributes:
        nodes: every node that there should be, and what is wrong with it, such as that it is not Ready; None when nothing is.
        renumbered: those with pods that nobody reaches.
        members: every VM, and why it is not a healthy member; None when it is one.
        cut_off: entries that are of no VM any more, though callers are sent there.
        unreachable: why the cluster does not answer; empty when it does.
    """

    nodes: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    renumbered: Mapping[str, Renumbered] = field(default_factory=dict[str, Renumbered])
    members: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    cut_off: Sequence[ApiObject] = field(default_factory=list[ApiObject])
    unreachable: str = ""

    @property
    def not_ready(self) -> list[str]:
        """The names of nodes that may become Ready by themselves."""
        return [name for name, why in self.nodes.items() if why not in (None, RENUMBERED)]


def look(outputs: Mapping[str, Any]) -> Live:
    """Ask the cluster for nodes and the members' health.

    Args:
        outputs: what the stack exports.
    """
    try:
        cluster, names = ApiCluster(outputs["kubeconfig"]), node_names(outputs)
        with ThreadPoolExecutor() as pool:
            questions = {**ASKED, **({"pods": (PODS,)} if names else {})}
            asked = {what: pool.submit(cluster.items, *path) for what, path in questions.items()}
        found = {what: answer.result() for what, answer in asked.items()}
    except KubeError as error:
        return Live(unreachable=str(error))
    others = renumbered(found["nodes"], found.get("pods", []))
    return Live(
        node_problems(names, found["nodes"], others),
        others,
        member_problems(outputs["vms"], found["entries"], found["istiods"]),
        cut_off(outputs["vms"], found["entries"], found["istiods"]),
    )


def node_names(outputs: Mapping[str, Any]) -> list[str]:
    """The nodes that the stack made; none where the cluster is someone else's."""
    return [name for name in outputs["machines"] if name not in outputs["vms"]]


def node_problems(
    names: Sequence[str], nodes: Sequence[ApiObject], renumbered: Container[str]
) -> dict[str, str | None]:
    """What is wrong with each node; None when nothing is."""
    found = {node["metadata"]["name"]: node for node in nodes}
    return {name: node_problem(found.get(name)) or (RENUMBERED if name in renumbered else None) for name in names}


def renumbered(nodes: Sequence[ApiObject], pods: Sequence[ApiObject]) -> dict[str, Renumbered]:
    """The nodes with pods that run at addresses of another range than the node's: with flannel such pods are reached by nobody."""
    ranges = {
        node["metadata"]["name"]: [ip_network(one) for one in node["spec"]["podCIDRs"]]
        for node in nodes
        if node.get("spec", {}).get("podCIDRs")
    }
    former: dict[str, list[str]] = {}
    for pod in pods:
        name, address = pod["spec"].get("nodeName"), pod["status"].get("podIP")
        runs_here = name in ranges and address and pod["status"].get("phase") == "Running"
        if (
            runs_here
            and not pod["spec"].get("hostNetwork")
            and not any(ip_address(address) in one for one in ranges[name])
        ):
            former.setdefault(name, []).append(address)
    return {name: Renumbered(str(ranges[name][0]), addresses) for name, addresses in former.items()}


def member_problems(
    vms: Mapping[str, Mapping[str, Any]], entries: Sequence[ApiObject], istiods: Sequence[ApiObject]
) -> dict[str, str | None]:
    """Why each VM is not a healthy member; None when it is one."""
    found = {(entry["metadata"]["namespace"], entry["metadata"]["name"]): entry for entry in entries}
    started = workload_entry.istiods(istiods)
    return {name: why_unhealthy(found.get((vm["namespace"], vm["workloadEntry"])), started) for name, vm in vms.items()}


def of_no_vm(vms: Mapping[str, Mapping[str, Any]], entries: Sequence[ApiObject]) -> list[ApiObject]:
    """Entries that a sidecar registered, and that are of none of the VMs."""
    ours = {(vm["namespace"], vm["workloadEntry"]) for vm in vms.values()}
    return [
        entry
        for entry in entries
        if workload_entry.GROUP_ANNOTATION in (entry["metadata"].get("annotations") or {})
        and (entry["metadata"]["namespace"], entry["metadata"]["name"]) not in ours
    ]


def cut_off(
    vms: Mapping[str, Mapping[str, Any]], entries: Sequence[ApiObject], istiods: Sequence[ApiObject]
) -> list[ApiObject]:
    """Entries of no VM whose istiod ended before their sidecars did, as when a machine gets another address while all are down.

    Callers are sent to them until istiod clears them away: after 45 minutes, see `shouldCleanupEntry` in Istio's
    pilot/pkg/autoregistration/controller.go.
    """
    started = workload_entry.istiods(istiods)
    return [
        found
        for found in of_no_vm(vms, entries)
        if (entry := workload_entry.parse(found)).connected_at and entry.why_cut_off(started)
    ]


def node_problem(node: ApiObject | None) -> str | None:
    """What is wrong with a node by itself; None when it is Ready."""
    if node is None:
        return MISSING
    if is_ready(node):
        return None
    return f"is not Ready: {one_line(ready_condition(node).get('message') or 'no reason given')}"


def why_unhealthy(found: ApiObject | None, istiods: Mapping[str, datetime]) -> str | None:
    """Why a VM is not a healthy member, or None when it is one.

    An entry outlives its VM for a while and says Healthy all along; so does its connection outlive the istiod that held it.

    Args:
        found: its WorkloadEntry.
        istiods: when each istiod pod that there is was last started.
    """
    if found is None:
        return NO_ENTRY
    entry = workload_entry.parse(found)
    if not entry.connected_at:
        return NO_CONNECTION
    if why := entry.why_cut_off(istiods):
        return f"{NO_CONNECTION}: {why}"
    if entry.healthy is None:
        return NO_REPORT
    return None if entry.healthy else one_line(entry.message or "no reason given")


def is_connected(problem: str) -> bool:
    """Whether what is wrong with a member is its health alone."""
    return not problem.startswith((NO_ENTRY, NO_CONNECTION))
