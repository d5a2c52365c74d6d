"""Plain and custom resources: any kind the API server knows."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from lab.plugins.differences import Difference, compare, under, without
from lab.plugins.failures import Failed
from lab.plugins.kubernetes.cluster import ApiError, Cluster, NoSuchKind, Object, Resource, Unreachable
from lab.plugins.kubernetes.readiness import troubles, waiting_for
from lab.plugins.kubernetes.shapes import (
    annotate_secrets,
    drifted,
    from_cluster,
    group_of,
    immutable,
    overlaid,
    owned_by,
    rows,
    table,
    to_cluster,
)
from lab.plugins.provider import Call, Failures, Handler, InitFailed
from lab.plugins.values import Properties, Secret, Unknown, plain

INPUTS: Final = "__inputs"
_API_VERSION: Final = "__initialApiVersion"
_MANAGER: Final = "__fieldManager"
_AUTONAMED: Final = "pulumi.com/autonamed"
_SKIP_AWAIT: Final = "pulumi.com/skipAwait"
_PATCH_FORCE: Final = "pulumi.com/patchForce"
_PATCH_MANAGER: Final = "pulumi.com/patchFieldManager"
_PROPAGATION: Final = "pulumi.com/deletionPropagationPolicy"
_UNSUPPORTED: Final = ("pulumi.com/waitFor", "pulumi.com/replaceUnready", "pulumi.com/timeoutSeconds")
_CREATOR: Final = "pulumi-kubernetes"
"""The owner of what was created, until the first update takes it over."""
_AWAIT_SECONDS: Final = 600.0
_POLL_SECONDS: Final = 0.5
_CREATE_WAITS: Final = (1, 2, 4, 8, 16)
"""Seconds between attempts to create something whose namespace or definition is not there yet."""
_CLUSTER_SCOPED: Final = frozenset(
    {
        "APIService",
        "CSIDriver",
        "CSINode",
        "CertificateSigningRequest",
        "ClusterRole",
        "ClusterRoleBinding",
        "ClusterTrustBundle",
        "ComponentStatus",
        "CustomResourceDefinition",
        "DeviceClass",
        "FlowSchema",
        "IPAddress",
        "IngressClass",
        "MutatingAdmissionPolicy",
        "MutatingAdmissionPolicyBinding",
        "MutatingWebhookConfiguration",
        "Namespace",
        "Node",
        "PersistentVolume",
        "PriorityClass",
        "PriorityLevelConfiguration",
        "ResourceSlice",
        "RuntimeClass",
        "SelfSubjectReview",
        "ServiceCIDR",
        "StorageClass",
        "StorageVersion",
        "TokenReview",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
        "ValidatingWebhookConfiguration",
        "VolumeAttachment",
        "VolumeAttributesClass",
    }
)
"""Kinds of Kubernetes itself that have no namespace: a preview must know them without asking a cluster."""


@dataclass(frozen=True)
class Behaviour:
    """The provider's settings that concern objects."""

    upsert_existing: bool = False
    patch_force: bool = False
    delete_unreachable: bool = False
    mutable: frozenset[str] = frozenset()
    """Which of ConfigMap and Secret are updated in place."""


class Objects(Handler):
    """Any object of the API server."""

    def __init__(self, cluster: Cluster, behaviour: Behaviour) -> None:
        """Nothing is reached until something has to be made, read or deleted."""
        self._cluster, self._behaviour = cluster, behaviour

    def check(self, call: Call, olds: Properties, news: Properties) -> tuple[Properties, Failures]:
        """Give a name where there is none, and the default namespace."""
        kind, inputs = _kind(call.type), dict(news)
        if kind[1].endswith("List") or kind[1].endswith("Patch"):
            what = "a list cannot be created: use the kind itself" if kind[1].endswith("List") else "patch resources"
            return news, {"": f"{call.type} is not supported by the lab's stand-in ({what})"}
        inputs.setdefault("apiVersion", kind[0])
        inputs.setdefault("kind", kind[1])
        given: Any = inputs.get("metadata") or {}
        metadata = given.value if isinstance(given, Secret) else given
        if isinstance(metadata, Unknown):
            return inputs, {}
        if not isinstance(metadata, dict):
            return news, {"metadata": "expected a table"}
        named = _named(call, cast(Properties, metadata), _metadata(olds))
        if _built_in(kind[0]) and kind[1] not in _CLUSTER_SCOPED and not named.get("namespace"):
            named = {**named, "namespace": self._cluster.default_namespace()}
        inputs["metadata"] = Secret(named) if isinstance(given, Secret) else named
        return inputs, _failures(named)

    def diff(self, call: Call, inputs: Properties, state: Properties, news: Properties) -> Difference:
        """Old inputs against new ones: `read` has already put drift into the old."""
        changes = without(compare(_comparable(inputs, news), news), call.ignore_changes)
        fixed = immutable(plain(news), self._behaviour.mutable)
        replaces = frozenset(path for path in changes if under(path, fixed))
        return Difference(changes, replaces, bool(replaces) and _must_go_first(state, plain(news)))

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        """Create; an existing object is an error unless the provider upserts."""
        if call.preview:
            return "", inputs
        obj = to_cluster(inputs)
        manager = _annotation(obj, _PATCH_MANAGER) or f"pulumi-kubernetes-{secrets.token_hex(4)}"
        live = self._create(call, obj, manager)
        state = _checkpoint(inputs, live, manager)
        try:
            live = self._ready(call, live)
        except Failed as error:
            raise InitFailed(
                f"{obj['kind']} {_shown(live)} was created, but did not become ready: {error}", _id(live), state
            ) from error
        return _id(live), _checkpoint(inputs, live, manager)

    def update(self, call: Call, inputs: Properties, state: Properties, news: Properties) -> Properties:
        """Server-side apply under the object's own field manager."""
        if call.preview:
            return overlaid({key: value for key, value in state.items() if key != INPUTS}, news)
        obj, old = to_cluster(news), plain(state)
        manager = _annotation(obj, _PATCH_MANAGER) or old.get(_MANAGER) or f"pulumi-kubernetes-{secrets.token_hex(4)}"
        resource = self._cluster.resource(obj["apiVersion"], obj["kind"])
        path = resource.object(_namespace(old), old["metadata"]["name"])
        live = self._apply(path, self._cluster.get(path), obj, manager)
        try:
            live = self._ready(call, live)
        except Failed as error:
            raise InitFailed(
                f"{obj['kind']} {_shown(live)} was updated, but did not become ready: {error}",
                _id(live),
                _checkpoint(news, live, manager),
            ) from error
        return _checkpoint(news, live, manager)

    def read(self, call: Call, inputs: Properties, state: Properties) -> tuple[Properties, Properties] | None:
        """The live object; the inputs show its drift."""
        old = plain(state)
        default = _kind(call.type)
        kind = (old.get("apiVersion") or default[0], old.get("kind") or default[1])
        namespace, _, name = call.resource_id.rpartition("/")
        try:
            resource = self._cluster.resource(*kind)
            live = self._cluster.get(resource.object(namespace or self._cluster.default_namespace(), name))
        except NoSuchKind:
            return None
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        except Unreachable as error:
            if not self._behaviour.delete_unreachable:
                raise Failed(f"the state of {kind[1]} {call.resource_id} cannot be read: {error}. {_FORGET}") from error
            call.log.warning(f"{error}; delete_unreachable is set: {kind[1]} {call.resource_id} is forgotten")
            return None
        manager = str(old.get(_MANAGER) or _CREATOR)
        if not inputs:
            found = _imported(live)
            return annotate_secrets(from_cluster(found), {}), _checkpoint(from_cluster(found), live, manager)
        now = annotate_secrets(drifted(plain(inputs), old, from_cluster(live)), inputs)
        return now, _checkpoint(now, live, manager)

    def delete(self, call: Call, inputs: Properties, state: Properties) -> None:
        """Delete and wait until it is gone."""
        old = plain(state)
        try:
            self._delete(call, old)
        except NoSuchKind:
            # With the definition gone, its objects are gone too.
            return
        except ApiError as error:
            if error.status != 404:
                raise
        except Unreachable as error:
            if not self._behaviour.delete_unreachable:
                raise Failed(f"{old['kind']} {_shown(old)} cannot be deleted: {error}. {_FORGET}") from error
            call.log.warning(f"{error}; delete_unreachable is set: {old['kind']} {_shown(old)} is forgotten")

    def _create(self, call: Call, obj: Object, manager: str) -> Object:
        attempt = 0
        while True:
            try:
                return self._create_once(obj, manager)
            except (NoSuchKind, ApiError) as error:
                if isinstance(error, ApiError) and error.status != 404:
                    raise self._explained(error, obj) from error
                if attempt == len(_CREATE_WAITS):
                    raise Failed(f"{obj['kind']} {_shown(obj)} cannot be created: {error}") from error
                call.log.status(f"Retry #{attempt}; creation failed: {error}")
            call.cancellation.sleep(_CREATE_WAITS[attempt])
            attempt += 1

    def _create_once(self, obj: Object, manager: str) -> Object:
        resource = self._cluster.resource(obj["apiVersion"], obj["kind"])
        obj = _placed(obj, resource, self._cluster)
        if self._behaviour.upsert_existing:
            path = resource.object(_namespace(obj), obj["metadata"]["name"])
            return self._patch(path, obj, manager, force=self._forced(obj))
        return self._cluster.request("POST", resource.collection(_namespace(obj)), {"fieldManager": _CREATOR}, obj)

    def _explained(self, error: ApiError, obj: Object) -> Failed:
        if error.reason != "AlreadyExists":
            return Failed(f"{obj['kind']} {_shown(obj)} was not created by the API server: {error}")
        return Failed(
            f"{error}\n\nThe resource already exists in the cluster. Import it (`pulumi import`), give the old resource an "
            "alias if it was renamed in the program, or set upsertExistingObjects on the provider to take over what is there."
        )

    def _apply(self, path: str, live: Object, obj: Object, manager: str) -> Object:
        obj = {**obj, "metadata": {**obj["metadata"]}}
        if live["metadata"].get("namespace"):
            obj["metadata"]["namespace"] = live["metadata"]["namespace"]
        else:
            obj["metadata"].pop("namespace", None)
        if obj["kind"] == "CustomResourceDefinition":
            # As `kubectl replace`: a definition is taken over whole, its objects stay.
            obj["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"]
            return self._cluster.request("PUT", path, {"fieldManager": manager}, obj)
        managed = rows(live, "metadata", "managedFields")
        folded = owned_by(manager, managed)
        if folded is not None:
            operations = [
                {"op": "replace", "path": "/metadata/managedFields", "value": folded},
                {"op": "replace", "path": "/metadata/resourceVersion", "value": live["metadata"]["resourceVersion"]},
            ]
            self._cluster.request("PATCH", path, {}, operations, "application/json-patch+json")
        return self._patch(path, obj, manager, force=self._forced(obj) or not managed)

    def _patch(self, path: str, obj: Object, manager: str, *, force: bool) -> Object:
        query = {"fieldManager": manager, "force": str(force).lower()}
        try:
            return self._cluster.request("PATCH", path, query, obj, "application/apply-patch+yaml")
        except ApiError as error:
            if error.status != 409:
                raise
            raise Failed(
                f"{obj['kind']} {_shown(obj)}: another writer owns fields that the program sets: {error}. "
                f'Drop the fields from the program, or annotate the object with {_PATCH_FORCE}: "true" to take them over.'
            ) from error

    def _forced(self, obj: Object) -> bool:
        return self._behaviour.patch_force or _annotation(obj, _PATCH_FORCE) == "true"

    def _ready(self, call: Call, live: Object) -> Object:
        """Wait until `live` is ready; the newest state of it."""
        if _annotation(live, _SKIP_AWAIT) == "true":
            return live
        resource = self._cluster.resource(live["apiVersion"], live["kind"])
        path = resource.object(_namespace(live), live["metadata"]["name"])
        end, said = time.monotonic() + (call.timeout or _AWAIT_SECONDS), None
        while waiting := self._waiting(live):
            if time.monotonic() > end:
                raise Failed("\n  ".join([f"timed out: {waiting}", *troubles(self._cluster, live)]))
            if waiting != said:
                call.log.status(f"waiting for {live['kind']} {live['metadata']['name']}: {waiting}")
                said = waiting
            call.cancellation.sleep(_POLL_SECONDS)
            live = self._again(path, live)
        return live

    def _waiting(self, live: Object) -> str | None:
        try:
            return waiting_for(self._cluster, live)
        except Unreachable as error:
            # An API server that restarts is no reason to give up before the time is over.
            return str(error)

    def _again(self, path: str, live: Object) -> Object:
        try:
            return self._cluster.get(path)
        except Unreachable:
            return live

    def _delete(self, call: Call, old: Object) -> None:
        resource = self._cluster.resource(old["apiVersion"], old["kind"])
        path = resource.object(_namespace(old), old["metadata"]["name"])
        policy = {
            "orphan": "Orphan",
            "background": "Background",
        }.get(str(_annotation(old, _PROPAGATION)).lower(), "Foreground")
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy}
        self._cluster.request("DELETE", path, {}, options)
        uid, end, said = old["metadata"].get("uid"), time.monotonic() + (call.timeout or _AWAIT_SECONDS), None
        while (live := self._again(path, old))["metadata"].get("uid") == uid:
            waiting = _remaining(live)
            if time.monotonic() > end:
                raise Failed(f"timed out waiting for {old['kind']} {_shown(old)} to be gone: {waiting}")
            if waiting != said:
                call.log.status(f"waiting for {old['kind']} {old['metadata']['name']} to be gone: {waiting}")
                said = waiting
            call.cancellation.sleep(_POLL_SECONDS)


_FORGET: Final = (
    "If the cluster is gone for good, set deleteUnreachable on the provider, or the environment variable "
    "PULUMI_K8S_DELETE_UNREACHABLE=true, to forget what was in it"
)


def _kind(type_token: str) -> tuple[str, str]:
    """`kubernetes:apps/v1:Deployment` → apiVersion and kind."""
    _, api_version, kind = type_token.split(":")
    return api_version.removeprefix("core/"), kind


def _built_in(api_version: str) -> bool:
    group = group_of(api_version)
    return "." not in group or group.endswith(".k8s.io")


def _metadata(properties: Properties) -> Properties:
    metadata = plain(properties.get("metadata"))
    return cast(Properties, metadata) if isinstance(metadata, dict) else {}


def _named(call: Call, metadata: Properties, old: Properties) -> Properties:
    if metadata.get("name") or metadata.get("generateName"):
        return metadata
    fresh = call.proposed_name or f"{call.name}-{secrets.token_hex(4)}"
    name = old["name"] if _AUTONAMED in table(old, "annotations") else fresh
    return {**metadata, "name": name, "annotations": {**(metadata.get("annotations") or {}), _AUTONAMED: "true"}}


def _failures(metadata: Properties) -> dict[str, str]:
    failures: dict[str, str] = {}
    if metadata.get("generateName"):
        failures["metadata.generateName"] = "is not supported with server-side apply: leave the name out instead"
    annotations = metadata.get("annotations")
    for name in _UNSUPPORTED:
        if isinstance(annotations, dict) and name in annotations:
            failures[f'metadata.annotations["{name}"]'] = "is not supported by the lab's stand-in"
    return failures


def _comparable(inputs: Properties, news: Properties) -> Properties:
    """Old inputs where a namespace that was left out counts as `default`, as it does in the cluster."""
    old, new = _metadata(inputs), _metadata(news)
    if not old.get("namespace") and new.get("namespace") == "default":
        return {**inputs, "metadata": {**old, "namespace": "default"}}
    return inputs


def _must_go_first(state: Properties, news: Properties) -> bool:
    """Whether old and new cannot exist side by side: same place, and a name that the program chose."""
    old, new = _metadata(state), _metadata(news)
    autonamed = isinstance(new.get("annotations"), dict) and _AUTONAMED in new["annotations"]
    place = (new.get("name"), new.get("namespace") or old.get("namespace"))
    return not autonamed and place == (old.get("name"), old.get("namespace"))


def _placed(obj: Object, resource: Resource, cluster: Cluster) -> Object:
    metadata = dict(obj["metadata"])
    if not resource.namespaced:
        metadata.pop("namespace", None)
    elif not metadata.get("namespace"):
        metadata["namespace"] = cluster.default_namespace()
    return {**obj, "metadata": metadata}


def _namespace(obj: Object) -> str:
    return obj["metadata"].get("namespace") or ""


def _shown(obj: Object) -> str:
    return _id(obj)


def _id(obj: Object) -> str:
    namespace, name = _namespace(obj), obj["metadata"]["name"]
    return f"{namespace}/{name}" if namespace else name


def _annotation(obj: Object, name: str) -> Any:
    return table(obj, "metadata", "annotations").get(name)


def _checkpoint(inputs: Properties, live: Object, manager: str) -> Properties:
    """The state: the live object, and what later operations need to know."""
    state = annotate_secrets(from_cluster(live), inputs)
    state[INPUTS] = annotate_secrets(inputs, inputs)
    state[_API_VERSION] = live["apiVersion"]
    state[_MANAGER] = manager
    return state


def _imported(live: Object) -> Object:
    """The inputs that would make this object: its own fields, without what the server adds."""
    metadata: Mapping[str, Any] = live["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace", "labels", "annotations") if key in metadata}
    return {**{key: value for key, value in live.items() if key != "status"}, "metadata": kept}


def _remaining(live: Object) -> str:
    finalizers = rows(live, "metadata", "finalizers") or rows(live, "spec", "finalizers")
    held = f"held by {', '.join(finalizers)}" if finalizers else "still there"
    conditions = rows(live, "status", "conditions")
    said = [entry["message"] for entry in conditions if entry.get("status") == "True" and entry.get("message")]
    return "; ".join([held, *said])
