"""Pure functions on Kubernetes objects: secret marks, drift, immutable fields, field ownership."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from lab.plugins.differences import Path
from lab.plugins.values import Properties, Secret, contains, plain

_METADATA: tuple[Path, ...] = (("metadata", "name"), ("metadata", "namespace"), ("kind",))
_SELECTOR: tuple[Path, ...] = (("spec", "selector"),)
_IMMUTABLE: Mapping[tuple[str, str], tuple[Path, ...]] = {
    ("", "Service"): (("spec", "clusterIP"),),
    ("", "ConfigMap"): (("data",), ("binaryData",)),
    ("", "Secret"): (("type",), ("data",), ("stringData",)),
    ("", "PersistentVolumeClaim"): tuple(
        ("spec", name) for name in ("accessModes", "selector", "storageClassName", "volumeName")
    ),
    ("", "ResourceQuota"): (("spec", "scopes"),),
    ("apps", "Deployment"): _SELECTOR,
    ("apps", "DaemonSet"): _SELECTOR,
    ("apps", "StatefulSet"): tuple(
        ("spec", name)
        for name in ("podManagementPolicy", "revisionHistoryLimit", "selector", "serviceName", "volumeClaimTemplates")
    ),
    ("batch", "Job"): tuple(("spec", name) for name in ("completions", "parallelism", "selector", "template")),
    ("rbac.authorization.k8s.io", "RoleBinding"): (("roleRef",),),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"): (("roleRef",),),
    ("storage.k8s.io", "StorageClass"): (("parameters",), ("provisioner",)),
}
_FOLDED = frozenset(
    {
        ("kubectl", "Apply"),
        ("kubectl", "Update"),
        ("before-first-apply", "Update"),
        ("pulumi-kubernetes", "Update"),
        ("pulumi-resource-kubernetes", "Update"),
    }
)
"""Owners whose fields a Pulumi program takes over: it made them itself, or an operator did before it."""


def at(obj: Any, *path: str) -> Any:
    """The value at `path`; None where it, or anything above it, is absent or null."""
    for key in path:
        obj = cast(Properties, obj).get(key) if isinstance(obj, dict) else None
    return obj


def table(obj: Any, *path: str) -> Properties:
    """The table at `path`; empty when there is none."""
    return cast(Properties, at(obj, *path) or {})


def rows(obj: Any, *path: str) -> list[Any]:
    """The list at `path`; empty when there is none."""
    return cast(list[Any], at(obj, *path) or [])


def group_of(api_version: str) -> str:
    """The API group; empty for the core."""
    return api_version.rpartition("/")[0]


def immutable(obj: Properties, mutable: frozenset[str]) -> tuple[Path, ...]:
    """The fields whose change needs a new object. `mutable` names kinds (ConfigMap, Secret) the provider may change."""
    kind = (group_of(str(obj.get("apiVersion"))), str(obj.get("kind")))
    if kind[1] in mutable and obj.get("immutable") is not True:
        return (*_METADATA, ("type",)) if kind[1] == "Secret" else _METADATA
    return (*_METADATA, *_IMMUTABLE.get(kind, ()))


def annotate_secrets(outputs: Properties, inputs: Properties) -> Properties:
    """`outputs` with the marks that `inputs` have at the same places; the data of a Secret always."""
    marked = dict(outputs)
    if outputs.get("kind") == "Secret":
        for name in ("data", "stringData"):
            if name in marked:
                marked[name] = Secret(marked[name])
    for key, value in inputs.items():
        if key not in marked or isinstance(marked[key], Secret):
            continue
        if isinstance(value, dict) and isinstance(marked[key], dict):
            marked[key] = annotate_secrets(cast(Properties, marked[key]), cast(Properties, value))
        elif contains(value, Secret):
            marked[key] = Secret(marked[key])
    return marked


def drifted(inputs: Any, before: Any, now: Any) -> Any:
    """`inputs` as they would have to be for the object as it is `now`.

    What is now as it was `before` stays as the program wrote it: the server's own spelling of a value (`0.1` as `100m`) is
    no drift.
    """
    if before == now:
        return inputs
    if isinstance(inputs, dict) and isinstance(before, dict) and isinstance(now, dict):
        was, today = cast(Properties, before), cast(Properties, now)
        kept: Properties = {}
        for key, value in cast(Properties, inputs).items():
            if key in today:
                kept[key] = drifted(value, was.get(key), today[key])
            elif key not in was:
                kept[key] = value
        return kept
    if isinstance(inputs, list) and isinstance(before, list) and isinstance(now, list):
        items, old, new = cast(list[Any], inputs), cast(list[Any], before), cast(list[Any], now)
        if len(items) == len(old) == len(new):
            return [drifted(item, o, n) for item, o, n in zip(items, old, new, strict=True)]
    return cast(Any, now)


def overlaid(below: Any, above: Any) -> Any:
    """`above` over `below`, table by table: what an object will be, as far as a preview can tell."""
    if isinstance(below, dict) and isinstance(above, dict):
        result = dict(cast(Properties, below))
        for key, value in cast(Properties, above).items():
            result[key] = overlaid(result.get(key), value)
        return result
    return above


def to_cluster(inputs: Properties) -> Properties:
    """The object to send: no secret marks, and extension fields (`x-kubernetes-…`) as Kubernetes spells them."""
    return _renamed(plain(inputs), "x_kubernetes_", "_", "-")


def from_cluster(obj: Properties) -> Properties:
    """The reverse of `to_cluster`."""
    return _renamed(obj, "x-kubernetes-", "-", "_")


def _renamed(value: Any, prefix: str, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {
            key.replace(old, new) if key.startswith(prefix) else key: _renamed(item, prefix, old, new)
            for key, item in cast(Properties, value).items()
        }
    if isinstance(value, list):
        return [_renamed(item, prefix, old, new) for item in cast(list[Any], value)]
    return value


def owned_by(manager: str, managed_fields: list[Properties]) -> list[Properties] | None:
    """The ownership records with those of our own earlier ways of writing folded into `manager`'s; None if there are none.

    An object is created by POST, so that an existing one is an error, and updated by server-side apply. To Kubernetes these
    are two owners; without this a field that the program drops would stay.
    """
    ours = [e for e in managed_fields if (e.get("manager"), e.get("operation")) in _FOLDED and not e.get("subresource")]
    if not ours:
        return None
    applied = next((e for e in managed_fields if (e.get("manager"), e.get("operation")) == (manager, "Apply")), None)
    entry = dict(applied or ours[0])
    entry.update(manager=manager, operation="Apply")
    for other in ours:
        entry["fieldsV1"] = overlaid(entry.get("fieldsV1") or {}, other.get("fieldsV1") or {})
    return [*(e for e in managed_fields if e not in ours and e is not applied), entry]
