"""Takes a cluster that someone else made for a stack, and gives it back as it was.

What the stack puts there is in namespaces that were not there before, or was put there by a Helm release in one of them; a ConfigMap notes
whose they are. So nothing of anybody else's is ever taken over, two stacks never share a cluster, a kubeconfig that leads to another
cluster is noticed, and what a killed run has left can be told from the rest. Helm leaves CRDs behind, and istiod a ConfigMap in
every namespace: these go when the cluster is given back.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from actions.cluster.versions import OLDEST_FOR
from actions.kube import ApiObject, Cluster, KubeError, Unreachable, is_ready, wait
from actions.protocol import Deadline, Document, Failure, Nothing, Progress

OLDEST = min(OLDEST_FOR.values())
"""The oldest Kubernetes that is taken: what the oldest Istio allowed in settings needs."""
NOTE = "/api/v1/namespaces/kube-system/configmaps/istio-vms"
"""Where it is noted whose the cluster is: `{owner, namespaces}`, the latter with spaces between."""
NAMESPACES, CONFIG_MAPS = "/api/v1/namespaces", "/api/v1/configmaps"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_RBAC, _ADMISSION = "/apis/rbac.authorization.k8s.io/v1", "/apis/admissionregistration.k8s.io/v1"
WEBHOOKS = (f"{_ADMISSION}/mutatingwebhookconfigurations", f"{_ADMISSION}/validatingwebhookconfigurations")
CLUSTER_SCOPED = (*WEBHOOKS, f"{_RBAC}/clusterrolebindings", f"{_RBAC}/clusterroles", CRDS)
"""Every kind without a namespace that Istio's charts have objects of."""
ISTIO_CONFIG = "istio.io/config=true"
"""The label of the ConfigMaps that istiod puts into every namespace (istio's security/pkg/k8s/configutil.go)."""
_RELEASE, _RELEASE_NAMESPACE = "meta.helm.sh/release-name", "meta.helm.sh/release-namespace"


class ClaimRequest(Document):
    """What `claim`, `renew` and `release` read.

    Attributes:
        kubeconfig: a kubeconfig's text.
        context: what people call it.
        owner: whose cluster it is to be: `<project>/<stack>`.
        namespaces: those that the stack makes.
        timeout_seconds: how long to wait for what is deleted to be gone.
    """

    kubeconfig: Annotated[str, Field(repr=False, min_length=1)]
    context: str
    owner: Annotated[str, Field(min_length=1)]
    namespaces: Annotated[tuple[str, ...], Field(min_length=1)]
    timeout_seconds: Annotated[float, Field(gt=0)] = 180


class Claimed(TypedDict):
    """What `claim` and `renew` print.

    Attributes:
        kubeconfig: the kubeconfig's text.
        version: Kubernetes' own, such as v1.32.0.
        node_addresses: one of each node.
    """

    kubeconfig: str
    version: str
    node_addresses: list[str]


@dataclass(frozen=True)
class Note:
    """Whose the cluster is, and which namespaces there are of theirs."""

    owner: str
    namespaces: frozenset[str]


def claim(request: ClaimRequest, cluster: Cluster, progress: Progress) -> Claimed:
    """Take the cluster, unless something of another is in the way; nothing but the note is changed.

    Raises:
        Failure: it cannot be used, or is in use; the message says by what, and what to do.
    """
    version = _check_usable(request, cluster, progress)
    note = read_note(cluster)
    if note and note.owner != request.owner:
        raise Failure(f"context {request.context}: the cluster is in use by stack {note.owner}; take that down first")
    if note is None and (found := list(_istio(cluster))):
        raise Failure(
            f"context {request.context}: the cluster has an Istio already, or what is left of one: {'; '.join(found)}. The stack installs "
            "its own, default revision and CRDs included: remove what is there, or choose another cluster"
        )
    return _note(request, cluster, note, version, progress)


def renew(request: ClaimRequest, cluster: Cluster, progress: Progress) -> Claimed:
    """Go on with the cluster by another kubeconfig, or with further namespaces; as `claim`.

    Raises:
        Failure: the kubeconfig leads to a cluster that the stack has not taken, or to nowhere.
    """
    version = _check_usable(request, cluster, progress)
    note = read_note(cluster)
    if note is None or note.owner != request.owner:
        whose = f"stack {note.owner} has it" if note else "it has no ConfigMap kube-system/istio-vms"
        raise Failure(
            f"context {request.context} leads to a cluster that is not the one of this stack: {whose}. Nothing was changed. Let the "
            f"context lead to the former cluster again; to move, `make down` while it does, then `make up`. {_put_back(request)}"
        )
    return _note(request, cluster, note, version, progress)


def release(request: ClaimRequest, cluster: Cluster, progress: Progress) -> Nothing:
    """Give the cluster back: remove what is left of the stack, the note last.

    Raises:
        Failure: the cluster does not answer, or something does not go.
    """
    note = read_note(cluster)
    if note is None or note.owner != request.owner:
        progress(f"context {request.context}: nothing there is of {request.owner}")
        return {}
    # A role that is gone no longer lets istiod write its ConfigMaps, so its namespace goes first, and with it its pods.
    paths = [f"{NAMESPACES}/{name}" for name in sorted(note.namespaces)]
    _remove(request, cluster, [path for path in paths if cluster.get(path)], progress)
    left = [
        f"{kind}/{one['metadata']['name']}"
        for kind in CLUSTER_SCOPED
        for one in cluster.items(kind)
        if _annotations(one).get(_RELEASE_NAMESPACE) in note.namespaces
    ]
    left += [_path_of(one) for one in cluster.items(CONFIG_MAPS, ISTIO_CONFIG)]
    _remove(request, cluster, left, progress)
    cluster.delete(NOTE)
    return {}


def read_note(cluster: Cluster) -> Note | None:
    """Whose the cluster is; None when nobody has taken it."""
    found = cluster.get(NOTE)
    data: Mapping[str, str] = (found or {}).get("data") or {}
    return Note(data.get("owner", ""), frozenset(data.get("namespaces", "").split())) if found else None


def _put_back(request: ClaimRequest) -> str:
    names = " ".join(sorted(request.namespaces))
    return (
        "Only if it is the same cluster and someone deleted the ConfigMap: kubectl -n kube-system create configmap istio-vms "
        f"--from-literal=owner={request.owner} --from-literal=namespaces='{names}'"
    )


def _check_usable(request: ClaimRequest, cluster: Cluster, progress: Progress) -> str:
    """The cluster's version, once everything that needs nobody's help is seen to be right."""
    progress(f"context {request.context}: looking at the cluster")
    try:
        version = str((cluster.get("/version") or {}).get("gitVersion", ""))
        allowed = cluster.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", _EVERYTHING)
    except Unreachable as error:
        raise Failure(f"context {request.context}: {error}. Is it running, and can it be reached from here?") from None
    except KubeError as error:
        raise Failure(
            f"context {request.context}: the cluster refuses its credentials: {error}. Log in again with your provider's tool, or ask "
            "the cluster's owner for a kubeconfig"
        ) from None
    if not allowed.get("status", {}).get("allowed"):
        raise Failure(
            f"context {request.context}: its user may not do everything, and Istio's CRDs, webhooks and roles take an administrator: "
            "kubectl create clusterrolebinding … --clusterrole=cluster-admin --user=…"
        )
    found = re.match(r"v(\d+)\.(\d+)", version)
    if not found or (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise Failure(
            f"context {request.context}: Kubernetes {version or '?'} is too old; upgrade it to {oldest} or later"
        )
    return version


_EVERYTHING = {
    "apiVersion": "authorization.k8s.io/v1",
    "kind": "SelfSubjectAccessReview",
    "spec": {"resourceAttributes": {"verb": "*", "group": "*", "resource": "*"}},
}


def _istio(cluster: Cluster) -> Iterator[str]:
    """What there is of an Istio that is not the stack's, and whose it is."""
    crds = [one for one in cluster.items(CRDS) if one["spec"]["group"].endswith(".istio.io")]
    if crds:
        yield f"{len(crds)} CRDs such as {crds[0]['metadata']['name']}{_installed_by(crds[0])}"
    for kind in WEBHOOKS:
        for one in cluster.items(kind, "istio.io/rev"):
            revision = one["metadata"]["labels"]["istio.io/rev"]
            yield f"webhook {one['metadata']['name']} of revision {revision}{_installed_by(one)}"
    if maps := cluster.items(CONFIG_MAPS, ISTIO_CONFIG):
        yield f"{len(maps)} ConfigMaps of an istiod (kubectl get configmaps -A -l {ISTIO_CONFIG})"
    for selector in ("istio-injection=enabled", "istio.io/rev"):
        for one in cluster.items(NAMESPACES, selector):
            yield f"namespace {one['metadata']['name']}, labelled {selector}: its pods would get sidecars"


def _installed_by(one: ApiObject) -> str:
    annotations = _annotations(one)
    if _RELEASE not in annotations:
        return ""
    return f" (Helm release {annotations.get(_RELEASE_NAMESPACE)}/{annotations[_RELEASE]})"


def _note(request: ClaimRequest, cluster: Cluster, note: Note | None, version: str, progress: Progress) -> Claimed:
    """Write down what the stack makes, once none of it is there before the stack makes it."""
    mine = note.namespaces if note else frozenset[str]()
    taken = [name for name in request.namespaces if name not in mine and cluster.get(f"{NAMESPACES}/{name}")]
    if taken:
        raise Failure(
            f"context {request.context}: the cluster has namespaces already that the stack makes, and would take along when it goes: "
            f"{', '.join(taken)}. Choose other names in the settings, or remove them"
        )
    addresses = _nodes(request, cluster, progress)
    if note is None or not mine >= set(request.namespaces):
        data = {"owner": request.owner, "namespaces": " ".join(sorted({*mine, *request.namespaces}))}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-vms"}, "data": data}
        if note:
            cluster.replace(NOTE, body)
        else:
            cluster.create(NOTE.rpartition("/")[0], body)
    return {"kubeconfig": request.kubeconfig, "version": version, "node_addresses": addresses}


def _nodes(request: ClaimRequest, cluster: Cluster, progress: Progress) -> list[str]:
    """The nodes' addresses, in the order of their names. One that is not Ready is its owner's business, unless all are."""
    nodes = sorted(cluster.items("/api/v1/nodes"), key=lambda node: node["metadata"]["name"])
    waiting = [node["metadata"]["name"] for node in nodes if not is_ready(node)]
    if len(waiting) == len(nodes):
        raise Failure(
            f"context {request.context}: no node of the cluster is Ready ({', '.join(waiting) or 'it has none'})"
        )
    if waiting:
        progress(f"going on without nodes that are not Ready: {', '.join(waiting)}")
    return [
        a["address"] for node in nodes for a in node.get("status", {}).get("addresses", []) if a["type"] == "InternalIP"
    ]


def _remove(
    request: ClaimRequest,
    cluster: Cluster,
    paths: Sequence[str],
    progress: Progress,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Delete objects and wait until they are gone."""
    for path in paths:
        progress(f"removing {path.removeprefix('/apis/').removeprefix('/api/v1/')}")
        cluster.delete(path)

    def look() -> str | None:
        there = [path for path in paths if cluster.get(path)]
        return f"still there: {', '.join(there)}" if there else None

    if reason := wait(look, Deadline(request.timeout_seconds), sleep):
        raise Failure(f"context {request.context}: not gone after {request.timeout_seconds:.0f} s; {reason}")


def _annotations(one: ApiObject) -> Mapping[str, str]:
    return one["metadata"].get("annotations") or {}


def _path_of(config_map: ApiObject) -> str:
    where = config_map["metadata"]
    return f"{NAMESPACES}/{where['namespace']}/configmaps/{where['name']}"
