"""When an object is ready, by kind, and what to tell people while it is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from lab.plugins.kubernetes.cluster import Cluster, Object
from lab.plugins.kubernetes.shapes import at, group_of, rows, table

Waiting = str | None
"""What is still awaited; None when the object is ready."""
_BAD_REASONS = frozenset(
    {
        "ImagePullBackOff",
        "ErrImagePull",
        "ErrImageNeverPull",
        "InvalidImageName",
        "CrashLoopBackOff",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)


def waiting_for(cluster: Cluster, obj: Object) -> Waiting:
    """What `obj` lacks to be ready; kinds that are not listed here are ready as soon as they exist."""
    test = _TESTS.get((group_of(obj["apiVersion"]), obj["kind"]))
    return test(cluster, obj) if test else None


def troubles(cluster: Cluster, obj: Object) -> list[str]:
    """Why the pods of `obj` do not run, as far as Kubernetes says."""
    selector = table(obj, "spec", "selector")
    labels = table(selector, "matchLabels") or selector
    namespace = at(obj, "metadata", "namespace")
    if not labels or not namespace or obj["kind"] not in ("Deployment", "StatefulSet", "DaemonSet", "Service"):
        return []
    wanted = ",".join(f"{key}={value}" for key, value in labels.items())
    pods = rows(cluster.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=wanted), "items")
    return list(dict.fromkeys(trouble for pod in pods for trouble in _pod_troubles(pod)))


def _pod_troubles(pod: Object) -> Iterator[str]:
    name, status = pod["metadata"]["name"], table(pod, "status")
    for condition in rows(status, "conditions"):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            yield f"pod {name} is not scheduled: {condition.get('message') or condition.get('reason')}"
    for container in [*rows(status, "initContainerStatuses"), *rows(status, "containerStatuses")]:
        waiting = table(container, "state", "waiting")
        ended = table(container, "lastState", "terminated")
        if waiting.get("reason") in _BAD_REASONS:
            last = f"; it last ended with exit code {ended['exitCode']}" if "exitCode" in ended else ""
            said = f": {waiting['message']}" if waiting.get("message") else ""
            yield f"pod {name}, container {container['name']}: {waiting['reason']}{said}{last}"


def _condition(obj: Object, name: str) -> Object:
    return table(next((entry for entry in rows(obj, "status", "conditions") if entry.get("type") == name), None))


def _observed(obj: Object) -> bool:
    return (at(obj, "status", "observedGeneration") or 0) >= obj["metadata"].get("generation", 0)


def _namespace(cluster: Cluster, obj: Object) -> Waiting:
    phase = at(obj, "status", "phase")
    return None if phase == "Active" else f"the namespace is {phase or 'not active yet'}"


def _deployment(cluster: Cluster, obj: Object) -> Waiting:
    wanted = at(obj, "spec", "replicas")
    wanted = 1 if wanted is None else wanted
    status = table(obj, "status")
    updated, available = status.get("updatedReplicas", 0), status.get("availableReplicas", 0)
    if not _observed(obj):
        return "not yet seen by its controller"
    if updated < wanted or available < updated or status.get("replicas", 0) > updated:
        progress = _condition(obj, "Progressing")
        stuck = f" ({progress.get('message')})" if progress.get("status") == "False" else ""
        return f"{available}/{wanted} available, {updated} up to date{stuck}"
    return None


def _stateful_set(cluster: Cluster, obj: Object) -> Waiting:
    wanted = at(obj, "spec", "replicas")
    wanted = 1 if wanted is None else wanted
    status = table(obj, "status")
    ready, updated = status.get("readyReplicas", 0), status.get("updatedReplicas", status.get("currentReplicas", 0))
    return None if _observed(obj) and ready >= wanted and updated >= wanted else f"{ready}/{wanted} ready"


def _daemon_set(cluster: Cluster, obj: Object) -> Waiting:
    status = table(obj, "status")
    wanted, ready = status.get("desiredNumberScheduled", 0), status.get("numberReady", 0)
    updated = status.get("updatedNumberScheduled", 0)
    return None if _observed(obj) and ready >= wanted and updated >= wanted else f"{ready}/{wanted} ready"


def _pod(cluster: Cluster, obj: Object) -> Waiting:
    phase = at(obj, "status", "phase")
    if phase == "Succeeded" or _condition(obj, "Ready").get("status") == "True":
        return None
    return "; ".join(_pod_troubles(obj)) or f"the pod is {phase or 'not started yet'}"


def _job(cluster: Cluster, obj: Object) -> Waiting:
    if _condition(obj, "Complete").get("status") == "True":
        return None
    failed = _condition(obj, "Failed")
    return f"the job failed: {failed.get('message')}" if failed.get("status") == "True" else "the job is not complete"


def _definition(cluster: Cluster, obj: Object) -> Waiting:
    return None if _condition(obj, "Established").get("status") == "True" else "the definition is not established yet"


def _service(cluster: Cluster, obj: Object) -> Waiting:
    spec = table(obj, "spec")
    if spec.get("type") == "LoadBalancer" and not at(obj, "status", "loadBalancer", "ingress"):
        return "it was not allocated an address; does this cluster have load balancers?"
    aimless = not spec.get("selector") or spec.get("clusterIP") == "None" or spec.get("type") == "ExternalName"
    if aimless or _has_endpoint(cluster, obj):
        return None
    return "it does not target any ready pod; its selector may match none"


def _has_endpoint(cluster: Cluster, service: Object) -> bool:
    namespace, name = service["metadata"]["namespace"], service["metadata"]["name"]
    slices = cluster.get(
        f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
        labelSelector=f"kubernetes.io/service-name={name}",
    )
    endpoints = [endpoint for entry in rows(slices, "items") for endpoint in rows(entry, "endpoints")]
    return any(at(endpoint, "conditions", "ready") is not False for endpoint in endpoints)


_TESTS: Mapping[tuple[str, str], Callable[[Cluster, Object], Waiting]] = {
    ("", "Namespace"): _namespace,
    ("", "Pod"): _pod,
    ("", "Service"): _service,
    ("apps", "DaemonSet"): _daemon_set,
    ("apps", "Deployment"): _deployment,
    ("apps", "StatefulSet"): _stateful_set,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("batch", "Job"): _job,
}
