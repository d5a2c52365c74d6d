"""The stack's Kubernetes objects as the cluster has them: which are gone, and which are no longer what was applied. It only reads.

Pulumi compares what it was told with what it is told; what someone deletes or edits in the cluster is in neither. The state has each
object as the API server showed it when it was applied, so that nothing has to be known of how the server spells a value or what it adds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actions.kube import ApiObject, Cluster
from ops import state
from ops.places import Found, Place

RELEASE = "kubernetes:helm.sh/v3:Release"
MANAGER = "__fieldManager"
"""In an object's outputs: whom the API server knows the provider by, as far as this object goes."""
OUR_MANAGERS = "pulumi-"
"""How the names of the field managers of Pulumi's programs begin."""
RUNS = "pulumi-kubernetes-"
"""How those begin that the provider makes up, one for each object."""
BUSY = "pending-install,pending-upgrade,pending-rollback,uninstalling"
_NOT_COMPARED = ("apiVersion", "kind", "status")
_IDENTITY = ("name", "namespace")


@dataclass(frozen=True)
class Differences:
    """What in the cluster is not as the state has it.

    Attributes:
        gone: URNs of objects that are not there.
        changed: URNs of objects that are no longer what was applied, and the fields, such as `spec.rules, metadata.labels.app`.
        releases: URNs of Helm releases that lack objects of theirs, and those objects.
        unfinished: URNs of Helm releases that a run was cut off at, and their status, such as `pending-upgrade`.
        shared: URNs of objects of which another run's field manager owns fields, too: it was killed after it had made them.
        places: where each object is.
    """

    gone: Sequence[str] = ()
    changed: Mapping[str, str] = field(default_factory=dict[str, str])
    releases: Mapping[str, Sequence[Place]] = field(default_factory=dict[str, Sequence[Place]])
    unfinished: Mapping[str, str] = field(default_factory=dict[str, str])
    shared: Sequence[str] = ()
    places: Mapping[str, Place] = field(default_factory=dict[str, Place])

    def __bool__(self) -> bool:
        """Whether there are any that matter to anyone but the next run: those of `shared` do not."""
        return bool(self.gone or self.changed or self.releases or self.unfinished)

    @property
    def lines(self) -> list[str]:
        """A line for each."""
        return [
            *(f"{self.places[urn]} is gone" for urn in self.gone),
            *(f"{self.places[urn]} was changed: {what}" for urn, what in self.changed.items()),
            *(
                f"Helm release {state.name(urn)} lacks {', '.join(map(str, places))}"
                for urn, places in self.releases.items()
            ),
            *(f"Helm release {state.name(urn)} was left {status}" for urn, status in self.unfinished.items()),
        ]


def compare(deployment: state.Deployment, cluster: Cluster) -> Differences:
    """Hold the objects that the state has against the cluster's; quick, as what is in one namespace is asked for at once.

    Fields that someone else added count where nobody but us writes: in the `spec` of custom resources and network policies.

    Args:
        deployment: the stack's state, with its secrets in the clear.
        cluster: the cluster that it is about.

    Raises:
        KubeError: the cluster does not answer, or does not let us look.
    """
    objects = {resource["urn"]: resource for resource in recorded(deployment)}
    places = {urn: place(resource) for urn, resource in objects.items()}
    helm = [resource for resource in state.resources(deployment) if _is(resource) and resource["type"] == RELEASE]
    releases = {release["urn"]: list(_made_by(release)) for release in helm}
    live = Found(cluster, [*places.values(), *(one for made in releases.values() for one in made)])
    seen = {urn: found for urn, one in places.items() if (found := live.get(one)) is not None}
    gone = [urn for urn in objects if urn not in seen]
    compared = {urn: ", ".join(changes(objects[urn], found)) for urn, found in seen.items()}
    lacking = {urn: [live.named(one) for one in made if not live.has(one)] for urn, made in releases.items()}
    changed = {urn: what for urn, what in compared.items() if what}
    return Differences(
        gone,
        changed,
        {urn: missing for urn, missing in lacking.items() if missing},
        _unfinished(helm, cluster),
        [urn for urn, found in seen.items() if strangers(found, manager(objects[urn]))],
        places,
    )


def recorded(deployment: state.Deployment) -> Iterator[Mapping[str, Any]]:
    """The Kubernetes objects that the state has, without Helm releases and what is only read."""
    for resource in state.resources(deployment):
        if _is(resource) and resource["type"] != RELEASE:
            yield resource


def _is(resource: Mapping[str, Any]) -> bool:
    ours = resource.get("custom") and not any(
        resource.get(word) for word in ("external", "delete", "pendingReplacement")
    )
    return bool(ours and resource["type"].startswith("kubernetes:") and resource.get("id"))


def place(resource: Mapping[str, Any]) -> Place:
    """Where the object of a resource is. Its id is `namespace/name`, or its name alone where the kind has no namespaces."""
    known = {**resource.get("inputs", {}), **resource.get("outputs", {})}
    _, version, kind = resource["type"].split(":")
    namespace, _, name = resource["id"].rpartition("/")
    return Place(
        state.reveal(known.get("apiVersion")) or version.removeprefix("core/"),
        state.reveal(known.get("kind")) or kind,
        namespace,
        name,
    )


def groups(deployment: state.Deployment) -> set[tuple[str, str]]:
    """The WorkloadGroups that the state has, by namespace and name."""
    places = map(place, recorded(deployment))
    return {(one.namespace, one.name) for one in places if one.kind == "WorkloadGroup"}


def manager(resource: Mapping[str, Any]) -> str:
    """The field manager that the provider uses for an object."""
    outputs = resource.get("outputs") or {}
    annotations = (state.reveal(outputs.get("metadata")) or {}).get("annotations") or {}
    return annotations.get("pulumi.com/patchFieldManager") or outputs.get(MANAGER) or ""


def strangers(live: ApiObject, own: str) -> list[Mapping[str, Any]]:
    """What other runs' field managers own of an object of ours, as its `managedFields` have it."""
    return [
        entry
        for entry in live["metadata"].get("managedFields", [])
        if entry.get("operation") == "Apply" and entry["manager"].startswith(RUNS) and entry["manager"] != own
    ]


def _made_by(release: Mapping[str, Any]) -> Iterator[Place]:
    """The objects of a Helm release. The provider lists them as `Deployment.apps/apps/v1: [namespace/name, …]`."""
    outputs = state.reveal(release.get("outputs", {}))
    for key, names in (outputs.get("resourceNames") or {}).items():
        kind, _, version = key.partition("/")
        for one in names:
            namespace, _, name = one.rpartition("/")
            yield Place(version, kind.partition(".")[0], namespace or outputs.get("namespace", ""), name)


def _unfinished(releases: Sequence[Mapping[str, Any]], cluster: Cluster) -> dict[str, str]:
    """Releases that Helm takes to be worked on, by the labels of its own records: nobody else may work on them then."""
    ids = {release["id"]: release["urn"] for release in releases}
    records = [
        record["metadata"]
        for namespace in dict.fromkeys(one.rpartition("/")[0] for one in ids)
        for record in cluster.items(f"/api/v1/namespaces/{namespace}/secrets", f"owner=helm,status in ({BUSY})")
    ]
    found = {f"{one['namespace']}/{one['labels']['name']}": one["labels"]["status"] for one in records}
    return {urn: found[release] for release, urn in ids.items() if release in found}


def changes(resource: Mapping[str, Any], live: ApiObject) -> list[str]:
    """The fields in which an object is not what was applied, by their paths."""
    if live["metadata"].get("deletionTimestamp"):
        return ["it is being deleted"]
    wanted, applied = (state.reveal(resource.get(side) or {}) for side in ("inputs", "outputs"))
    found = [
        path
        for key, value in wanted.items()
        if not key.startswith("__") and key not in _NOT_COMPARED
        for path in _changed(value, applied.get(key), live.get(key), (key,), whole=_is_ours_alone(live))
    ]
    return [_shown(path) for path in [*found, *added(resource, live)]]


def added(resource: Mapping[str, Any], live: ApiObject) -> list[tuple[str, ...]]:
    """The paths of what someone put into the `spec` of an object that nobody but us writes to."""
    if not _is_ours_alone(live):
        return []
    applied = state.reveal(resource.get("outputs") or {})
    others = [
        entry.get("fieldsV1") or {}
        for entry in live["metadata"].get("managedFields", [])
        if not entry.get("subresource") and not entry.get("manager", "").startswith(OUR_MANAGERS)
    ]
    # What the API server itself fills in, as a newer version may, belongs to nobody.
    return [path for path in _more(applied.get("spec") or {}, live.get("spec") or {}, ("spec",)) if _in(others, path)]


def _is_ours_alone(live: ApiObject) -> bool:
    """Whether no controller writes to the `spec` of such an object. Its lists then count as one value each."""
    group = live["apiVersion"].partition("/")[0]
    return live["kind"] == "NetworkPolicy" or ("." in group and not group.endswith(".k8s.io"))


def _more(applied: Any, live: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(applied, dict) and isinstance(live, dict):
        for key in live:
            if key not in applied:
                yield (*path, key)
            else:
                yield from _more(applied[key], live[key], (*path, key))


def _in(owned: Sequence[Mapping[str, Any]], path: tuple[str, ...]) -> bool:
    """Whether one of these `fieldsV1` has the path."""
    below: list[Any] = list(owned)
    for key in path:
        below = [fields[f"f:{key}"] for fields in below if isinstance(fields, dict) and f"f:{key}" in fields]
    return bool(below)


def _changed(wanted: Any, applied: Any, live: Any, path: tuple[str, ...], *, whole: bool) -> Iterator[tuple[str, ...]]:
    """The paths of `wanted` at which the object is other than it was; what was not there even then, such as `stringData`, is no change."""
    if applied is None or applied == live:
        return
    if isinstance(wanted, dict) and isinstance(applied, dict) and isinstance(live, dict):
        for key, value in wanted.items():
            if path != ("metadata",) or key not in _IDENTITY:
                yield from _changed(value, applied.get(key), live.get(key), (*path, key), whole=whole)
    elif isinstance(wanted, list) and isinstance(applied, list) and isinstance(live, list):
        if len(wanted) != len(applied) or len(live) < len(applied) or (whole and len(live) != len(applied)):
            yield path
        else:
            for i, (value, before) in enumerate(zip(wanted, applied, strict=True)):
                yield from _changed(value, before, _item(live, i, before), (*path, str(i)), whole=whole)
    else:
        yield path


def _item(live: Sequence[Any], i: int, before: Any) -> Any:
    """The item that was at a place of a list: the one of its name, as others may have put theirs before it."""
    if isinstance(before, dict) and "name" in before:
        return next((one for one in live if isinstance(one, dict) and one.get("name") == before["name"]), None)
    return live[i]


def _shown(path: Sequence[str]) -> str:
    text = ".".join(f"[{key}]" if key.isdigit() else key for key in path)
    return text.replace(".[", "[")
