"""Asks for everything at once: the driver for machines, the cluster for its objects, istiod for its proxies, every VM for its certificate.

What does not answer costs its own places only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, ParamSpec, TypeVar

from components import ssh
from components.command_line import Failure, Ssh
from components.kube import ApiCluster, ApiObject, Cluster
from components.mesh.addresses import reached_at
from components.workloads import certificate
from components.workloads.vm import Vm
from ops import gateways, machines, members, state
from ops.errors import OpsError, one_line
from ops.live import ISTIOD_PODS, why_not_ready, why_unhealthy
from ops.status.model import Gateway, Istiod, Machine, Member, Node, NotKnown, Status, Workload
from ops.workspace import Stack

CONNECT_SECONDS = 3
"""How long a VM may take to answer SSH: status tells of one that does not, where `up` waits for it."""
SYNC_SECONDS = 5
REVISION, TAG = "istio.io/rev", "istio.io/tag"
ASKED = {
    "nodes": ("/api/v1/nodes",),
    "services": ("/api/v1/services",),
    "deployments": ("/apis/apps/v1/deployments", "app=istiod"),
    "webhooks": ("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", TAG),
    "groups": ("/apis/networking.istio.io/v1/workloadgroups",),
    "entries": ("/apis/networking.istio.io/v1/workloadentries",),
    "istiods": ISTIOD_PODS,
}
"""Paths and labels of what the cluster is asked for."""
SYNCZ = ("pilot-discovery", "request", "GET", "/debug/syncz")
SYNC_TYPES = {"CDS": "cluster", "LDS": "listener", "EDS": "endpoint", "RDS": "route"}
"""Envoy's names for what istiod sends, and the fields' of `SyncStatus` in Istio's pilot/pkg/xds/debug.go."""

T = TypeVar("T")
P = ParamSpec("P")


def look(stack: Stack, deployment: state.Deployment) -> Status:
    """The stack as it is now.

    Args:
        stack: the stack.
        deployment: its state, after an `up` that succeeded.

    Raises:
        Failure: the state's kubeconfig is none.
    """
    outputs = state.outputs(deployment)
    vms, joined = outputs["vms"], members.recorded(deployment)
    with ThreadPoolExecutor(len(ASKED) + len(joined) + 2) as pool:  # everything at once, the driver and the proxies too
        states = pool.submit(_softly, machines.states, stack, list(machines.made(deployment).values()))
        ends = {name: pool.submit(_softly, _certificate_ends, document) for name, document in joined.items()}
        cluster = ApiCluster(outputs["kubeconfig"])
        asked = {what: pool.submit(_softly, cluster.items, *path) for what, path in ASKED.items()}
        proxies = pool.submit(_softly, _proxies, cluster)
    found = {what: answer.result() for what, answer in asked.items()}
    problems = _built(_problems, vms, found["entries"], found["istiods"])
    nodes = [name for name in outputs["machines"] if name not in vms]
    joins = state.answers(deployment, "components.workloads", "join").values()
    hosts = {answer["workload_entry"]: answer["host_name"] for answer in joins if "host_name" in answer}
    groups = {
        name: (document["member"]["namespace"], document["member"]["workload"]) for name, document in joined.items()
    }
    return Status(
        stack=stack.name,
        machines=_machines(outputs["machines"], states.result()),
        nodes=_built(_nodes, nodes, found["nodes"]),
        istiods=_built(_istiods, found["deployments"], found["webhooks"]),
        gateways=_built(_gateways, gateways.recorded(deployment), found["services"]),
        workloads=_built(_workloads, groups, found["groups"], found["services"], problems),
        members=_members(vms, groups, problems, ends, proxies.result(), hosts),
    )


def _softly(ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | NotKnown:
    """The answer, or why there is none."""
    try:
        return ask(*args, **kwargs)
    except (Failure, OpsError) as error:
        return NotKnown(one_line(str(error)))


def _built(build: Callable[..., T], *parts: Any) -> T | NotKnown:
    """What is made of the parts, or why one of them is missing."""
    return next((part for part in parts if isinstance(part, NotKnown)), None) or build(*parts)


def _machines(exported: Mapping[str, Mapping[str, Any]], states: Mapping[str, str] | NotKnown) -> list[Machine]:
    def of(name: str) -> str | NotKnown:
        return states if isinstance(states, NotKnown) else states.get(name, machines.EXISTING)

    return [Machine(name, machine["address"], of(name)) for name, machine in exported.items()]


def _nodes(names: Sequence[str], nodes: Sequence[ApiObject]) -> list[Node]:
    """The stack's own; all there are, where the cluster is someone else's."""
    found = {node["metadata"]["name"]: node for node in nodes}
    versions = {
        name: node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "") for name, node in found.items()
    }
    wanted = names or sorted(found)
    return [Node(name, why_not_ready(found.get(name)), versions.get(name, "")) for name in wanted]


def _istiods(deployments: Sequence[ApiObject], webhooks: Sequence[ApiObject]) -> list[Istiod]:
    def of(deployment: ApiObject) -> Istiod:
        revision = _labels(deployment).get(REVISION, "default")
        image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        tags = sorted(_labels(hook)[TAG] for hook in webhooks if _labels(hook).get(REVISION) == revision)
        ready = deployment.get("status", {}).get("readyReplicas", 0)
        return Istiod(revision, image.rpartition(":")[2], ready, deployment["spec"].get("replicas", 1), tags)

    return [of(deployment) for deployment in deployments]


def _gateways(recorded: Sequence[gateways.Gateway], services: Sequence[ApiObject]) -> list[Gateway]:
    found = {_place(service): service for service in services}

    def of(gateway: gateways.Gateway) -> Gateway:
        service = found.get((gateway.namespace, gateway.service), {"spec": {}})
        ports = {port.get("name", ""): port["port"] for port in service["spec"].get("ports", [])}
        return Gateway(gateway.service, reached_at(service), ports, gateway.addresses)

    return [of(gateway) for gateway in recorded]


def _problems(
    vms: Mapping[str, Mapping[str, Any]], entries: Sequence[ApiObject], istiods: Sequence[ApiObject]
) -> dict[str, str | None]:
    """Why each VM is not a healthy member; None when it is one."""
    found = {_place(entry): entry for entry in entries}
    pods = {pod["metadata"]["name"] for pod in istiods}
    return {name: why_unhealthy(found.get((vm["namespace"], vm["workloadEntry"])), pods) for name, vm in vms.items()}


def _workloads(
    groups: Mapping[str, tuple[str, str]],
    registered: Sequence[ApiObject],
    services: Sequence[ApiObject],
    problems: Mapping[str, str | None],
) -> list[Workload]:
    """Every WorkloadGroup of the cluster, and those that VMs of the stack are in though it is gone."""
    labels = {_place(group): group["spec"].get("metadata", {}).get("labels", {}) for group in registered}

    def of(place: tuple[str, str]) -> Workload:
        states = [problems[name] is None for name, group in groups.items() if group == place]
        selecting = _selecting(services, place[0], labels.get(place, {}))
        return Workload(*place, place in labels, selecting, sum(states), len(states))

    return [of(place) for place in sorted({*labels, *groups.values()})]


def _selecting(services: Iterable[ApiObject], namespace: str, labels: Mapping[str, str]) -> list[str]:
    """The Services of the namespace that something with these labels belongs to."""
    selectors = {_place(service): service["spec"].get("selector") or {} for service in services}
    return sorted(
        name
        for (place, name), selector in selectors.items()
        if place == namespace and selector and selector.items() <= labels.items()
    )


def _members(
    vms: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, tuple[str, str]],
    problems: Mapping[str, str | None] | NotKnown,
    ends: Mapping[str, Future[datetime | NotKnown | None]],
    proxies: Mapping[str, Mapping[str, str]] | NotKnown,
    hosts: Mapping[str, str],
) -> list[Member]:
    def of(name: str, vm: Mapping[str, Any]) -> Member:
        # A VM's proxy is named by its host: `POD_NAME` in Istio's tools/packaging/common/istio-start.sh.
        proxy = f"{hosts.get(vm['workloadEntry'], name)}.{vm['namespace']}"
        return Member(
            name=name,
            workload="/".join(groups[name]) if name in groups else vm["namespace"],
            entry=vm["workloadEntry"],
            problem=problems if isinstance(problems, NotKnown) else problems[name],
            certificate_ends=ends[name].result() if name in ends else None,
            sync=proxies if isinstance(proxies, NotKnown) else proxies.get(proxy, {}),
        )

    return [of(name, vm) for name, vm in vms.items()]


def _certificate_ends(document: Mapping[str, Any]) -> datetime | None:
    """When a VM's certificate ends; None when it has none."""

    def connect(*target: Any) -> AbstractContextManager[ssh.Session]:
        return ssh.connect(*target[:-1], timeout=CONNECT_SECONDS)

    with Vm(Ssh(**document["ssh"]), connect) as vm:
        found = certificate.read(vm)
    return found.not_after if found else None


def _proxies(cluster: Cluster) -> dict[str, dict[str, str]]:
    """For every proxy that is connected to an istiod, by the proxy's id, how each type of `SYNC_TYPES` agrees."""
    pods = [pod for pod in cluster.items(*ISTIOD_PODS) if pod.get("status", {}).get("phase") == "Running"]
    proxies = [proxy for pod in pods for proxy in _syncz(cluster, pod["metadata"])]
    return {
        proxy["proxy"]: {
            name: _agreement(proxy.get(f"{field}_sent", ""), proxy.get(f"{field}_acked", ""))
            for name, field in SYNC_TYPES.items()
        }
        for proxy in proxies
    }


def _syncz(cluster: Cluster, pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    ran = cluster.run(pod["namespace"], pod["name"], "discovery", SYNCZ, SYNC_SECONDS)
    try:
        return json.loads(ran.stdout)
    except ValueError:
        said = ran.stderr.strip() or ran.stdout.strip() or "nothing"
        raise Failure(f"pod {pod['name']} does not tell of its proxies; it says: {said}") from None


def _agreement(sent: str, acknowledged: str) -> str:
    """As `istioctl proxy-status` has it: by the nonces of what was sent last and of what was taken over last."""
    if not sent:
        return "NOT SENT"
    return "SYNCED" if sent == acknowledged else "STALE"


def _labels(found: ApiObject) -> Mapping[str, str]:
    return found["metadata"].get("labels", {})


def _place(found: ApiObject) -> tuple[str, str]:
    return found["metadata"]["namespace"], found["metadata"]["name"]
