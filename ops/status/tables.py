"""The tables of a status, made of what everyone said who was asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from actions.kube import ApiObject
from actions.mesh.addresses import reached_at
from ops import live
from ops.machines import EXISTING
from ops.readings import Gateway as Recorded
from ops.status.model import Gateway, Istiod, Machine, Member, Node, NotKnown, Proxy, Workload
from ops.status.proxies import REVISION
from ops.status.vms import OnVm

TAG = "istio.io/tag"


def machines(exported: Mapping[str, Mapping[str, Any]], states: Mapping[str, str] | NotKnown) -> list[Machine]:
    """Those that the stack exports, with their driver's word."""

    def of(name: str) -> str | NotKnown:
        return states if isinstance(states, NotKnown) else states.get(name, EXISTING)

    return [Machine(name, machine["address"], of(name)) for name, machine in exported.items()]


def nodes(names: Sequence[str], nodes: Sequence[ApiObject], pods: Sequence[ApiObject], version: str) -> list[Node]:
    """The stack's own and those that are none of them; all there are, where the cluster is someone else's."""
    found = {node["metadata"]["name"]: node for node in nodes}
    versions = {
        name: node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", "") for name, node in found.items()
    }
    if not names:
        return [Node(name, live.node_problem(found[name]), versions[name]) for name in sorted(found)]
    listed = [*names, *sorted(found.keys() - set(names))]
    problems = live.node_problems(listed, nodes, live.renumbered(nodes, pods))
    return [Node(name, problems[name], versions.get(name, ""), version, name in names) for name in listed]


def istiods(deployments: Sequence[ApiObject], webhooks: Sequence[ApiObject], wanted: str | None) -> list[Istiod]:
    """Every revision that is installed."""

    def of(deployment: ApiObject) -> Istiod:
        revision = _labels(deployment).get(REVISION, "default")
        image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        tags = sorted(_labels(hook)[TAG] for hook in webhooks if _labels(hook).get(REVISION) == revision)
        ready = deployment.get("status", {}).get("readyReplicas", 0)
        replicas = deployment["spec"].get("replicas", 1)
        return Istiod(revision, image.rpartition(":")[2], ready, replicas, tags, revision == (wanted or revision))

    return [of(deployment) for deployment in deployments]


def gateways(recorded: Sequence[Recorded], services: Sequence[ApiObject]) -> list[Gateway]:
    """Those whose addresses were read, as they are now."""
    found = {_place(service): service for service in services}

    def of(gateway: Recorded) -> Gateway:
        service = found.get((gateway.namespace, gateway.service), {"spec": {}})
        ports = {port.get("name", ""): port["port"] for port in service["spec"].get("ports", [])}
        return Gateway(gateway.service, reached_at(service), ports, gateway.addresses, gateway.ports)

    return [of(gateway) for gateway in recorded]


def workloads(
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


def members(
    exported: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, tuple[str, str]],
    problems: Mapping[str, str | None] | NotKnown,
    on_vms: Mapping[str, OnVm | NotKnown],
    connected: Mapping[str, Proxy] | NotKnown,
    proxy_names: Mapping[str, str],
) -> list[Member]:
    """The stack's VMs, by what they are, say of themselves, and are to istiod."""

    def of(name: str, vm: Mapping[str, Any]) -> Member:
        has = on_vms.get(name)
        return Member(
            name=name,
            workload="/".join(groups[name]) if name in groups else vm["namespace"],
            entry=vm["workloadEntry"],
            problem=problems if isinstance(problems, NotKnown) else problems[name],
            certificate_ends=has.certificate_ends if isinstance(has, OnVm) else has,
            sync=connected if isinstance(connected, NotKnown) else _sync(connected.get(proxy_names[name])),
        )

    return [of(name, vm) for name, vm in exported.items()]


def _sync(proxy: Proxy | None) -> Mapping[str, str]:
    return proxy.sync if proxy else {}


def _labels(found: ApiObject) -> Mapping[str, str]:
    return found["metadata"].get("labels", {})


def _place(found: ApiObject) -> tuple[str, str]:
    return found["metadata"]["namespace"], found["metadata"]["name"]
