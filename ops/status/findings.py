"""What of all that was seen is not as it should be, and for each what will help.

One fact is told once: a member without a connection is not told again for what its proxy lacks.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from actions.kube import ApiObject, is_ready, ready_condition
from actions.mesh.injection import Uninjected
from actions.workloads.files import ROOT_CERTIFICATE
from components.mesh.control_plane import NAMESPACE
from ops import live, machines, state
from ops.finding import Finding
from ops.objects import Differences
from ops.status.model import Gateway, Istiod, Member, Node, NotKnown, Proxy, Status
from ops.status.vms import OnVm

SIDECAR = "istio-proxy"
_SERVICELB = "svccontroller.k3s.cattle.io"


@dataclass(frozen=True)
class Beyond:
    """What was seen besides the tables, and what the stack's state says of it.

    Attributes:
        now: the time.
        revision: the settings' revision of Istio; empty where the state does not say.
        trust_domain: the settings'; empty where the state does not say.
        live_trust_domain: what istiod reads.
        roots: fingerprints of the mesh's root certificates.
        on_vms: what each VM has.
        identities: what each VM should have.
        orphans: machines of ours that are not in the state.
        differences: objects of the state that are gone or changed.
        uninjected: pods without the sidecar that they should have.
        pods: those in the stack's namespaces.
        proxies: every connected proxy, by its id.
        proxy_names: the ids of the VMs' proxies.
        entries_of_no_vm: WorkloadEntries in the stack's namespaces that a sidecar registered, and that are of none of its VMs.
        groups: the WorkloadGroups there.
        recorded_groups: those that the state has, by namespace and name.
        pending: names of resources that an operation was cut off at.
    """

    now: datetime
    revision: str
    trust_domain: str
    live_trust_domain: str | NotKnown
    roots: frozenset[bytes] | NotKnown
    on_vms: Mapping[str, OnVm | NotKnown]
    identities: Mapping[str, str]
    orphans: Sequence[Mapping[str, Any]] | NotKnown
    differences: Differences | NotKnown
    uninjected: Sequence[Uninjected] | NotKnown
    pods: Sequence[ApiObject] | NotKnown
    proxies: Mapping[str, Proxy] | NotKnown
    proxy_names: Mapping[str, str]
    entries_of_no_vm: Sequence[ApiObject] | NotKnown
    groups: Sequence[ApiObject] | NotKnown
    recorded_groups: Collection[tuple[str, str]]
    pending: Sequence[str]


def of(status: Status, beyond: Beyond) -> list[Finding]:
    """The findings, those first that others may follow from."""
    stack = status.stack
    return [
        *_not_known(status, beyond),
        *_machines(status, beyond),
        *(finding for node in _known(status.nodes) for finding in _node(stack, node)),
        *(finding for istiod in _known(status.istiods) for finding in _istiod(istiod, beyond)),
        *(finding for gateway in _known(status.gateways) for finding in _gateway(stack, gateway)),
        *_objects(stack, beyond),
        *_mesh(beyond),
        *_pods(stack, beyond),
        *(finding for member in status.members for finding in _member(stack, member, beyond)),
        *_left_over(stack, beyond),
    ]


def _known(part: Sequence[Any] | NotKnown) -> Sequence[Any]:
    return [] if isinstance(part, NotKnown) else part


def _not_known(status: Status, beyond: Beyond) -> Iterator[Finding]:
    """What could not be asked, each reason once."""
    up = _up(status.stack, "starts what has stopped, and waits until it answers")
    asked: list[tuple[str, Any, str]] = [
        ("the cluster", part, up)
        for part in (
            status.nodes, status.istiods, status.gateways, status.workloads, beyond.entries_of_no_vm, beyond.groups, beyond.pods,
            beyond.uninjected, beyond.differences, beyond.roots, beyond.live_trust_domain,
        )
    ]  # fmt: skip
    asked += [("the machines' driver", one.state, "see to what it says") for one in status.machines]
    asked += [("the machines' driver", beyond.orphans, "see to what it says")]
    asked += [("istiod", beyond.proxies, f"`kubectl -n {NAMESPACE} logs -l app=istiod` has more")]
    asked += [(f"VM {name}", said, _shell(status.stack, name)) for name, said in beyond.on_vms.items()]
    told: set[str] = set()
    for subject, part, what_to_do in asked:
        if isinstance(part, NotKnown) and part.not_known not in told:
            told.add(part.not_known)
            yield Finding("not-known", subject, f"cannot be asked: {part.not_known}", what_to_do)


def _machines(status: Status, beyond: Beyond) -> Iterator[Finding]:
    for machine in status.machines:
        if not machine.well:
            effect = "makes it anew" if machine.state == machines.GONE else "starts it"
            yield Finding(
                "machine-not-running", f"machine {machine.name}", f"is {machine.state}", _up(status.stack, effect)
            )
    for orphan in _known(beyond.orphans):
        problem = "is the stack's by its driver, and not in its state: a run that was killed began it"
        up = _up(status.stack, "takes it over or removes it")
        yield Finding("machine-of-nobody", f"machine {orphan['name']}", problem, up)


def _node(stack: str, node: Node) -> Iterator[Finding]:
    subject, shell = f"node {node.name}", _shell(stack, node.name)
    if not node.ours:
        delete = f"`kubectl delete node {node.name}`, once nobody needs it"
        yield Finding("node-of-nobody", subject, "is none of the stack's machines", delete)
    elif node.problem == live.RENUMBERED:
        yield Finding("pods-not-reached", subject, node.problem, _up(stack, "starts them anew"))
    elif node.problem:
        effect = "has it register again" if node.problem == live.MISSING else "waits for it"
        look = f"{_up(stack, effect)}; {shell} and `journalctl -u 'k3s*'` there say more"
        yield Finding("node-not-ready", subject, node.problem, look)
    elif not node.well:
        problem = f"runs {node.version}, the settings say {node.wanted}"
        back = f"somebody has replaced k3s: put the other back to /usr/local/bin/k3s by {shell}, and restart it"
        yield Finding("node-version", subject, problem, back)


def _istiod(istiod: Istiod, beyond: Beyond) -> Iterator[Finding]:
    subject, helm = f"istiod of revision {istiod.revision}", f"helm -n {NAMESPACE} uninstall istiod-{istiod.revision}"
    if not istiod.ours:
        problem = f"is installed besides {beyond.revision}, which the settings say"
        what_to_do = f"`make up` ends a change of revision that was cut off; else `{helm}`, once nothing is connected"
        yield Finding("istiod-of-nobody", subject, problem, what_to_do)
    elif not istiod.well:
        problem = f"has {istiod.ready} of {istiod.wanted} pods ready"
        describe = f"`kubectl -n {NAMESPACE} describe pods -l app=istiod` says what keeps them"
        yield Finding("istiod-not-ready", subject, problem, describe)


def _gateway(stack: str, gateway: Gateway) -> Iterator[Finding]:
    subject = f"gateway {gateway.name}"
    if not gateway.addresses:
        what_to_do = (
            f"`kubectl -n kube-system describe pods -l {_SERVICELB}/svcname={gateway.name}` says what keeps them; where there are none, a "
            f"label {_SERVICELB}/enablelb on some node leaves out all that have not `true` there: `kubectl label --overwrite nodes --all "
            f"{_SERVICELB}/enablelb=true`"
        )
        yield Finding("gateway-without-address", subject, "has no address: nobody reaches it", what_to_do)
    elif gateway.moved:
        moved = f"has moved from {', '.join(gateway.recorded)} to {', '.join(gateway.addresses)}"
        yield Finding("gateway-moved", subject, moved, _up(stack, "follows, and the VMs with it"))
    if gateway.other_ports:
        edit = f"somebody has changed its Service: `kubectl -n {NAMESPACE} edit service {gateway.name}`"
        yield Finding("gateway-ports", subject, f"has other ports: {', '.join(gateway.other_ports)}", edit)


def _objects(stack: str, beyond: Beyond) -> Iterator[Finding]:
    if isinstance(beyond.differences, NotKnown):
        return
    found, up = beyond.differences, _up(stack, "puts it back")
    for urn in found.gone:
        yield Finding("object-gone", str(found.places[urn]), "is gone from the cluster", up)
    for urn, what in found.changed.items():
        yield Finding("object-changed", str(found.places[urn]), f"was changed in the cluster: {what}", up)
    for urn, status in found.unfinished.items():
        left = f"was left {status} by a run that was cut off"
        yield Finding("release-unfinished", f"Helm release {state.name(urn)}", left, _up(stack, "goes on from there"))
    for urn, places in found.releases.items():
        lacks = f"lacks {', '.join(map(str, places))}"
        yield Finding("release-incomplete", f"Helm release {state.name(urn)}", lacks, up)


def _mesh(beyond: Beyond) -> Iterator[Finding]:
    read = beyond.live_trust_domain
    if not isinstance(read, NotKnown) and read and beyond.trust_domain and read != beyond.trust_domain:
        problem = f"has trust domain {read}, the settings say {beyond.trust_domain}"
        edit = f"`kubectl -n {NAMESPACE} edit configmap istio-{beyond.revision}`, then restart istiod"
        yield Finding("trust-domain", "the mesh", problem, edit)


def _pods(stack: str, beyond: Beyond) -> Iterator[Finding]:
    """Pods without their sidecars, and the others' connections."""
    bare = {(pod.namespace, pod.name) for pod in _known(beyond.uninjected)}
    for pod in _known(beyond.uninjected):
        delete = f"`kubectl -n {pod.namespace} delete pod {pod.name}`"
        by_hand = f"{delete} makes it anew" if pod.owner else f"{delete}, and make it anew"
        anew = _up(stack, f"restarts {pod.owner}") if pod.owner and pod.owner.can_restart else by_hand
        yield Finding("pod-without-sidecar", f"pod {pod.namespace}/{pod.name}", pod.why, anew)
    for pod in _known(beyond.pods):
        metadata = pod["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        ended = "deletionTimestamp" in metadata or pod.get("status", {}).get("phase") == "Succeeded"
        if ended or (namespace, name) in bare:
            continue
        subject = f"pod {namespace}/{name}"
        if why := _why_not_ready(pod):
            describe = f"`kubectl -n {namespace} describe pod {name}` says more"
            yield Finding("pod-not-ready", subject, f"is not Ready: {why}", describe)
        elif not isinstance(beyond.proxies, NotKnown) and _has_proxy(pod):
            anew = f"`kubectl -n {namespace} delete pod {name}` makes it anew"
            yield from _proxy(subject, beyond.proxies.get(f"{name}.{namespace}"), beyond.revision, anew)


def _why_not_ready(pod: ApiObject) -> str | None:
    """Why a pod is not Ready, None when it is."""
    if is_ready(pod):
        return None
    return ready_condition(pod).get("message") or pod.get("status", {}).get("phase", "no reason given")


def _has_proxy(pod: ApiObject) -> bool:
    containers = [*pod["spec"].get("containers", []), *pod["spec"].get("initContainers", [])]
    return any(one["name"] == SIDECAR for one in containers)


def _proxy(subject: str, proxy: Proxy | None, revision: str, what_to_do: str) -> Iterator[Finding]:
    """What is wrong with a proxy's connection."""
    if proxy is None:
        yield Finding("proxy-not-connected", subject, "has a proxy that is connected to no istiod", what_to_do)
    elif revision and proxy.revision != revision:
        problem = f"is connected to istiod of revision {proxy.revision}, the settings say {revision}"
        yield Finding("proxy-of-other-revision", subject, problem, what_to_do)
    elif not proxy.well:
        stale = f"has not taken over what istiod sent: {', '.join(proxy.stale)}"
        problem = stale if proxy.stale else "was sent nothing by istiod"
        yield Finding("proxy-not-synced", subject, problem, f"its proxy's log says why; {what_to_do}")


def _member(stack: str, member: Member, beyond: Beyond) -> Iterator[Finding]:
    subject, has = f"VM {member.name}", beyond.on_vms.get(member.name)
    rejoin = f"`make rejoin STACK={stack} VM={_short(stack, member.name)}` lets it join again, and so does `make up`"
    if isinstance(has, OnVm):
        yield from _on_vm(stack, subject, has, beyond.identities[member.name], beyond, rejoin)
    proxies = beyond.proxies
    proxy = None if isinstance(proxies, NotKnown) else proxies.get(beyond.proxy_names[member.name])
    alone = not isinstance(proxies, NotKnown) and proxy is None
    problem = member.problem if isinstance(member.problem, str) else None
    if problem and (alone or not live.is_connected(problem)):
        yield Finding("member-not-connected", subject, f"is no member of the mesh: {problem}", rejoin)
    elif problem:
        start = f"start what answers its probe: {_shell(stack, member.name)}"
        what_to_do = rejoin if problem == live.NO_REPORT else start
        yield Finding("member-unhealthy", subject, f"is not healthy: {problem}", what_to_do)
    elif alone:
        yield Finding(
            "member-not-connected", subject, "is connected to no istiod; its WorkloadEntry is of before", rejoin
        )
    if proxy:
        yield from _proxy(subject, proxy, beyond.revision, rejoin)


def _on_vm(stack: str, subject: str, has: OnVm, identity: str, beyond: Beyond, rejoin: str) -> Iterator[Finding]:
    """What is wrong with a VM's certificates."""
    if has.certificate_ends and has.certificate_ends <= beyond.now:
        yield Finding(
            "member-certificate", subject, f"has a certificate that ended {has.certificate_ends:%F %T}Z", rejoin
        )
    if has.identity and has.identity != identity:
        problem = f"has a certificate of {has.identity}, and should be {identity}"
        yield Finding("member-identity", subject, problem, rejoin)
    if not isinstance(beyond.roots, NotKnown) and not beyond.roots <= has.roots:
        by_hand = f"; where somebody has changed {ROOT_CERTIFICATE} by hand, remove that first: then {rejoin}"
        problem = "does not trust the mesh's root certificate, which is another one now"
        yield Finding("member-root", subject, problem, _up(stack, "brings it there") + by_hand)


def _left_over(stack: str, beyond: Beyond) -> Iterator[Finding]:
    """What nobody owns."""
    for entry in _known(beyond.entries_of_no_vm):
        namespace, name = entry["metadata"]["namespace"], entry["metadata"]["name"]
        delete = f"`kubectl -n {namespace} delete workloadentry {name}`; should its VM still run, stop the sidecar there first"
        yield Finding("entry-of-nobody", f"WorkloadEntry {namespace}/{name}", "is of no VM of the stack", delete)
    for group in _known(beyond.groups):
        namespace, name = group["metadata"]["namespace"], group["metadata"]["name"]
        if (namespace, name) not in beyond.recorded_groups:
            delete = f"`kubectl -n {namespace} delete workloadgroup {name}`, unless somebody needs it"
            yield Finding("group-of-nobody", f"WorkloadGroup {namespace}/{name}", "is not in the stack's state", delete)
    if beyond.pending:
        problem = f"was cut off while it worked on {', '.join(beyond.pending)}"
        yield Finding("operation-pending", "an earlier run", problem, _up(stack, "ends what it began"))


def _up(stack: str, effect: str) -> str:
    return f"`make up STACK={stack}` {effect}"


def _shell(stack: str, machine: str) -> str:
    return f"`make ssh STACK={stack} VM={_short(stack, machine)}`"


def _short(stack: str, machine: str) -> str:
    return machine.removeprefix(f"{stack}-")
