"""Which pods of the mesh's namespaces have no sidecar, or one of another revision; it only reads.

istiod puts a sidecar into a pod when the pod is made and never afterwards, so that a pod which came up while no istiod of its namespace's
revision served, or before that revision changed, stays as it is until it is recreated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from actions.kube import ApiObject, Cluster

COLLECTIONS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}
"""What can be restarted, by kind: its name in paths of the API group `apps`."""
_STATUS, _INJECT = "sidecar.istio.io/status", "sidecar.istio.io/inject"


@dataclass(frozen=True)
class Owner:
    """What makes a pod anew when it goes."""

    kind: str
    namespace: str
    name: str

    @property
    def can_restart(self) -> bool:
        """Whether it is of a kind that replaces its pods one after the other when it is told to."""
        return self.kind in COLLECTIONS

    @property
    def path(self) -> str:
        """Its API path, where it can be restarted."""
        return f"/apis/apps/v1/namespaces/{self.namespace}/{COLLECTIONS[self.kind]}/{self.name}"

    def __str__(self) -> str:
        """As people name it."""
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Uninjected:
    """A pod without the sidecar that it should have.

    Attributes:
        namespace: the pod's.
        name: the pod's.
        why: what is wrong, such as "has no sidecar".
        owner: what makes it anew; None when nothing does.
    """

    namespace: str
    name: str
    why: str
    owner: Owner | None

    def __str__(self) -> str:
        """One line for people."""
        return f"pod {self.namespace}/{self.name} {self.why} ({self.owner or 'nothing makes it anew'})"


def uninjected(cluster: Cluster, namespaces: Iterable[str], revision: str) -> list[Uninjected]:
    """The pods without a sidecar of that revision. Those that have ended, are ending, or are to have none do not count.

    Args:
        cluster: where.
        namespaces: the mesh's.
        revision: the one that these namespaces' pods should have, whatever the namespaces are labelled at the moment.

    Raises:
        KubeError: the cluster does not answer, or does not let us look.
    """
    names = sorted(set(namespaces))
    with ThreadPoolExecutor(max(1, len(names))) as pool:
        return [pod for found in pool.map(partial(_in_namespace, cluster, revision), names) for pod in found]


def _in_namespace(cluster: Cluster, revision: str, namespace: str) -> list[Uninjected]:
    pods = cluster.items(f"/api/v1/namespaces/{namespace}/pods")
    wrong = [(pod["metadata"], why) for pod in pods if (why := _why(pod, revision))]
    owners = dict(_owners(cluster, namespace, [metadata for metadata, _ in wrong]))
    return [Uninjected(namespace, metadata["name"], why, owners[metadata["name"]]) for metadata, why in wrong]


def _why(pod: ApiObject, revision: str) -> str | None:
    """What is wrong with a pod's sidecar, or None when nothing is."""
    if not _needs_sidecar(pod):
        return None
    found = _revision(pod)
    if found is None:
        return "has no sidecar"
    return None if found == revision else f"has a sidecar of revision {found} instead of {revision}"


def _needs_sidecar(pod: ApiObject) -> bool:
    """After `injectRequired` in Istio's pkg/kube/inject: the label counts before the annotation, and a host's own network gets none."""
    metadata = pod["metadata"]
    if metadata.get("deletionTimestamp") or pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return False
    chosen = {**_table(metadata, "annotations"), **_table(metadata, "labels")}.get(_INJECT)
    return chosen != "false" and not pod["spec"].get("hostNetwork")


def _revision(pod: ApiObject) -> str | None:
    """The revision of the istiod that put a pod's sidecar there; None without one."""
    text = _table(pod["metadata"], "annotations").get(_STATUS)
    if not text:
        return None
    try:
        return str(json.loads(text).get("revision") or "default")
    except (ValueError, AttributeError):
        return None


def _owners(cluster: Cluster, namespace: str, pods: Iterable[ApiObject]) -> Iterator[tuple[str, Owner | None]]:
    """For each pod's name what makes it anew; the ReplicaSets of a Deployment are its business."""
    known: dict[str, Owner] = {}
    for metadata in pods:
        owner = _controller(metadata)
        if owner and owner.kind == "ReplicaSet":
            if owner.name not in known:
                found = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/replicasets/{owner.name}")
                known[owner.name] = (_controller(found["metadata"]) if found else None) or owner
            owner = known[owner.name]
        yield metadata["name"], owner


def _controller(metadata: ApiObject) -> Owner | None:
    references: list[ApiObject] = metadata.get("ownerReferences") or []
    found = next((one for one in references if one.get("controller")), None)
    return Owner(found["kind"], metadata["namespace"], found["name"]) if found else None


def _table(metadata: ApiObject, key: str) -> Mapping[str, str]:
    return metadata.get(key) or {}
