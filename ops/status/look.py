"""Asks for everything at once: the driver for machines, the cluster for its objects, istiod for its proxies, every VM for what it has.

What does not answer costs its own places only.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

from actions.kube import ApiCluster, ApiObject, Cluster
from actions.mesh.injection import Uninjected, uninjected
from actions.mesh.published import mesh_config, root_certificate
from actions.protocol import Failure
from actions.registry import JOIN
from components.mesh.control_plane import NAMESPACE
from ops import live, machines, members, objects, readings, state
from ops.errors import OpsError, one_line
from ops.status import findings, proxies, tables, vms
from ops.status.findings import Beyond
from ops.status.model import NotKnown, Proxy, Status
from ops.status.tables import TAG
from ops.status.vms import OnVm
from ops.workspace import Stack

ASKED = live.ASKED | {
    "services": ("/api/v1/services",),
    "deployments": ("/apis/apps/v1/deployments", "app=istiod"),
    "webhooks": ("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", TAG),
    "groups": ("/apis/networking.istio.io/v1/workloadgroups",),
}
"""Paths and labels of what the cluster is asked for."""

T = TypeVar("T")
P = ParamSpec("P")


@dataclass(frozen=True)
class Answers:
    """What everyone said who was asked.

    Attributes:
        machines: the driver's word for each machine of the state.
        orphans: machines of ours that the state does not have.
        on_vms: what each VM that has joined has.
        lists: what the cluster has of `ASKED`.
        pods: those in the stack's namespaces and in Istio's; all, where the cluster is the stack's own.
        proxies: the connected ones, by their ids.
        differences: between the state's objects and the cluster's.
        uninjected: pods without the sidecar that they should have.
        roots: fingerprints of the mesh's root certificates.
        trust_domain: what istiod reads.
    """

    machines: Mapping[str, str] | NotKnown
    orphans: Sequence[Mapping[str, Any]] | NotKnown
    on_vms: Mapping[str, OnVm | NotKnown]
    lists: Mapping[str, list[ApiObject] | NotKnown]
    pods: list[ApiObject] | NotKnown
    proxies: Mapping[str, Proxy] | NotKnown
    differences: objects.Differences | NotKnown
    uninjected: Sequence[Uninjected] | NotKnown
    roots: frozenset[bytes] | NotKnown
    trust_domain: str | NotKnown


def look(stack: Stack, deployment: state.Deployment) -> Status:
    """The stack as it is now.

    Args:
        stack: the stack.
        deployment: its state, after an `up` that succeeded.

    Raises:
        Failure: the state's kubeconfig is none.
    """
    outputs, joined = state.outputs(deployment), members.recorded(deployment)
    mesh: Mapping[str, Any] = outputs.get("settings", {}).get("mesh", {})
    version = outputs.get("settings", {}).get("cluster", {}).get("version", "")
    answers = _ask(stack, deployment, outputs, joined, mesh.get("revision"))
    lists, hosts, vms_ = answers.lists, _host_names(deployment), outputs["vms"]
    problems = _built(live.member_problems, vms_, lists["entries"], lists["istiods"])
    groups = {name: (one["member"]["namespace"], one["member"]["workload"]) for name, one in joined.items()}
    proxy_names = {name: _proxy_name(name, vm, hosts) for name, vm in vms_.items()}
    status = Status(
        stack=stack.name,
        machines=tables.machines(outputs["machines"], answers.machines),
        nodes=_built(tables.nodes, live.node_names(outputs), lists["nodes"], answers.pods, version),
        istiods=_built(tables.istiods, lists["deployments"], lists["webhooks"], mesh.get("revision")),
        gateways=_built(tables.gateways, readings.gateways(deployment), lists["services"]),
        workloads=_built(tables.workloads, groups, lists["groups"], lists["services"], problems),
        members=tables.members(vms_, groups, problems, answers.on_vms, answers.proxies, proxy_names),
    )
    namespaces = state.namespaces(deployment)
    beyond = Beyond(
        now=datetime.now(UTC),
        revision=mesh.get("revision", ""),
        trust_domain=mesh.get("trustDomain", ""),
        live_trust_domain=answers.trust_domain,
        roots=answers.roots,
        on_vms=answers.on_vms,
        identities={name: _identity(document) for name, document in joined.items()},
        orphans=answers.orphans,
        differences=answers.differences,
        uninjected=answers.uninjected,
        pods=_in((*namespaces, NAMESPACE), answers.pods),
        proxies=answers.proxies,
        proxy_names=proxy_names,
        entries_of_no_vm=_built(live.of_no_vm, vms_, _in(namespaces, lists["entries"])),
        groups=_in(namespaces, lists["groups"]),
        recorded_groups=objects.groups(deployment),
        pending=sorted({state.name(one["resource"]["urn"]) for one in deployment.get("pending_operations") or []}),
    )
    return replace(status, findings=findings.of(status, beyond))


def _ask(
    stack: Stack,
    deployment: state.Deployment,
    outputs: Mapping[str, Any],
    joined: Mapping[str, Any],
    revision: str | None,
) -> Answers:
    """Ask everyone at once."""
    cluster, namespaces = ApiCluster(outputs["kubeconfig"]), state.namespaces(deployment)
    with ThreadPoolExecutor(len(ASKED) + len(joined) + len(namespaces) + 7) as pool:

        def ask(question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T | NotKnown]:
            return pool.submit(_softly, question, *args, **kwargs)

        states = ask(machines.states, stack, list(machines.made(deployment).values()))
        orphans = ask(machines.orphans, stack, deployment)
        on_vms = {name: ask(vms.ask, document) for name, document in joined.items()}
        lists = {what: ask(cluster.items, *path) for what, path in ASKED.items()}
        if live.node_names(outputs):
            pods = [ask(cluster.items, live.PODS)]
        else:
            ours = dict.fromkeys((*namespaces, NAMESPACE))
            pods = [ask(cluster.items, f"/api/v1/namespaces/{name}/pods") for name in ours]
        connected = ask(proxies.connected, cluster)
        # It asks for a lot at once: with connections of its own.
        differences = ask(objects.compare, deployment, ApiCluster(outputs["kubeconfig"]))
        bare = ask(_uninjected, cluster, namespaces)
        roots = ask(_roots, cluster)
        trust_domain = ask(_trust_domain, cluster, revision)
    return Answers(
        machines=states.result(),
        orphans=orphans.result(),
        on_vms={name: answer.result() for name, answer in on_vms.items()},
        lists={what: answer.result() for what, answer in lists.items()},
        pods=_joined(answer.result() for answer in pods),
        proxies=connected.result(),
        differences=differences.result(),
        uninjected=bare.result(),
        roots=roots.result(),
        trust_domain=trust_domain.result(),
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


def _joined(lists: Iterable[list[ApiObject] | NotKnown]) -> list[ApiObject] | NotKnown:
    joined: list[ApiObject] = []
    for one in lists:
        if isinstance(one, NotKnown):
            return one
        joined += one
    return joined


def _in(namespaces: Collection[str], found: Sequence[ApiObject] | NotKnown) -> Sequence[ApiObject] | NotKnown:
    """Those in the stack's namespaces: what others have in a cluster of theirs is not ours to judge."""
    if isinstance(found, NotKnown):
        return found
    return [one for one in found if one["metadata"]["namespace"] in namespaces]


def _uninjected(cluster: Cluster, namespaces: Mapping[str, str]) -> list[Uninjected]:
    by_revision: dict[str, list[str]] = {}
    for name, revision in namespaces.items():
        if revision:
            by_revision.setdefault(revision, []).append(name)
    return [pod for revision, names in by_revision.items() for pod in uninjected(cluster, names, revision)]


def _roots(cluster: Cluster) -> frozenset[bytes]:
    """Fingerprints of the mesh's root certificates; none before istiod has published them."""
    return vms.fingerprints(root_certificate(cluster, NAMESPACE) or "")


def _trust_domain(cluster: Cluster, revision: str | None) -> str:
    """What istiod reads; empty before it is there."""
    return (mesh_config(cluster, NAMESPACE, revision or "") or {}).get("trust_domain", "")


def _identity(document: Mapping[str, Any]) -> str:
    member = document["member"]
    return f"spiffe://{member.get('trust_domain')}/ns/{member['namespace']}/sa/{member.get('service_account')}"


def _host_names(deployment: state.Deployment) -> dict[str, str]:
    """What VMs call themselves, by their WorkloadEntry."""
    joins = state.results(deployment, JOIN).values()
    return {answer["workload_entry"]: answer["host_name"] for answer in joins if "host_name" in answer}


def _proxy_name(name: str, vm: Mapping[str, Any], hosts: Mapping[str, str]) -> str:
    """A VM's proxy is named by its host: `POD_NAME` in Istio's tools/packaging/common/istio-start.sh."""
    return f"{hosts.get(vm['workloadEntry'], name)}.{vm['namespace']}"
