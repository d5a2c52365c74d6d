"""Which objects of the state are gone from the cluster or are not what was applied."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from actions.kube import ApiCluster, KubeError
from ops.objects import Differences, compare
from tests.unit.ops.conftest import Api, secret, urn

SERVICES = "/api/v1/namespaces/vmns/services"
POLICIES = "/apis/security.istio.io/v1/namespaces/vmns/authorizationpolicies"
KINDS = {
    "/api/v1": [("Namespace", "namespaces", False), ("Service", "services", True), ("Secret", "secrets", True)],
    "/apis/apps/v1": [("Deployment", "deployments", True)],
    "/apis/security.istio.io/v1": [("AuthorizationPolicy", "authorizationpolicies", True)],
    "/apis/rbac.authorization.k8s.io/v1": [("ClusterRole", "clusterroles", False)],
}


class World:
    """A cluster, and a state that has what is in it."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.resources: list[dict[str, Any]] = []
        for path, kinds in KINDS.items():
            served = [{"name": plural, "kind": kind, "namespaced": named} for kind, plural, named in kinds]
            api.objects[path] = {"resources": [*served, {"name": "x/status", "kind": "X", "namespaced": True}]}
        api.objects["/apis/security.istio.io"] = {"versions": [{"groupVersion": "security.istio.io/v1"}]}

    def put(self, path: str, live: dict[str, Any]) -> dict[str, Any]:
        bare = {key: value for key, value in live.items() if key not in ("apiVersion", "kind")}
        self.api.objects.setdefault(path, {"items": []})["items"].append(bare)
        return live

    def applied(self, kind: str, inputs: dict[str, Any], live: dict[str, Any], **further: Any) -> str:
        """Has the state know an object; its URN."""
        metadata = live["metadata"]
        place = "/".join(metadata[key] for key in ("namespace", "name") if key in metadata)
        name = urn(kind, metadata["name"])
        known = {"inputs": inputs, "outputs": copy.deepcopy(live), **further}
        self.resources.append({"urn": name, "type": kind, "custom": True, "id": place, **known})
        return name

    def compare(self) -> Differences:
        return compare({"resources": self.resources}, ApiCluster(self.api.kubeconfig))


@pytest.fixture
def world(api: Api) -> World:
    return World(api)


def a_service(world: World) -> tuple[str, dict[str, Any]]:
    metadata = {"name": "external-app", "namespace": "vmns", "labels": {"app": "external-app"}}
    inputs = {
        "apiVersion": "v1", "kind": "Service", "metadata": metadata,
        "spec": {"selector": {"app": "external-app"}, "ports": [{"name": "http", "port": 8000, "targetPort": 8000.0}]},
    }  # fmt: skip
    live = copy.deepcopy(inputs)
    live["metadata"] |= {"uid": "1", "resourceVersion": "7"}
    live["spec"]["ports"][0] |= {"targetPort": 8000, "protocol": "TCP"}
    live["spec"] |= {"clusterIP": "10.43.0.7", "type": "ClusterIP"}
    return world.applied("kubernetes:core/v1:Service", inputs, world.put(SERVICES, live)), live


def a_policy(world: World, spec: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    metadata = {"name": "deny", "namespace": "vmns"}
    live = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec}
    kind = "kubernetes:security.istio.io/v1:AuthorizationPolicy"
    return world.applied(kind, copy.deepcopy(live), world.put(POLICIES, copy.deepcopy(live))), world.api.objects[
        POLICIES
    ]["items"][-1]


def a_release(world: World) -> str:
    kind = "kubernetes:helm.sh/v3:Release"
    names = {
        "Deployment.apps/apps/v1": ["istio-system/istiod"],
        "Service/v1": ["istiod"],
        "ClusterRole.rbac.authorization.k8s.io/rbac.authorization.k8s.io/v1": ["istiod"],
        "CustomResourceDefinition.apiextensions.k8s.io/apiextensions.k8s.io/v1": [
            "authorizationpolicies.security.istio.io"
        ],
    }
    outputs = {"namespace": "istio-system", "resourceNames": names}
    known = {"urn": urn(kind, "istiod"), "id": "istio-system/istiod", "inputs": {}, "outputs": outputs}
    world.resources.append({"type": kind, "custom": True, **known})
    for path in ("/apis/apps/v1/namespaces/istio-system/deployments", "/api/v1/namespaces/istio-system/services"):
        world.put(path, {"metadata": {"name": "istiod", "namespace": "istio-system"}})
    world.api.objects["/apis/rbac.authorization.k8s.io/v1/clusterroles/istiod"] = {"metadata": {"name": "istiod"}}
    return urn(kind, "istiod")


def test_what_is_as_it_was_applied_differs_in_nothing(world: World) -> None:
    """The server's own spelling, what it fills in, and what it never shows, are no difference."""
    _, live = a_service(world)
    live["metadata"]["resourceVersion"] = "9"
    live["status"] = {"loadBalancer": {}}
    live["metadata"]["annotations"] = {"of": "someone else"}
    metadata = {"name": "word", "namespace": "vmns"}
    hidden = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    shown = world.put("/api/v1/namespaces/vmns/secrets", {**hidden, "data": {"word": "b3Blbg=="}})
    world.applied("kubernetes:core/v1:Secret", {**hidden, "stringData": secret({"word": "open"})}, shown)
    a_policy(world, {})
    a_release(world)
    found = world.compare()
    assert not found
    assert found.lines == []


def test_what_is_gone(world: World, api: Api) -> None:
    service, _ = a_service(world)
    policy, _ = a_policy(world, {"action": "ALLOW"})
    kept = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "vmns"}}
    api.objects["/api/v1/namespaces/vmns"] = kept
    world.applied("kubernetes:core/v1:Namespace", kept, kept)
    lost = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lost"}}
    namespace = world.applied("kubernetes:core/v1:Namespace", lost, lost)
    api.objects[SERVICES]["items"].clear()
    del api.objects["/apis/security.istio.io/v1"]  # as when its definitions are deleted
    found = world.compare()
    assert found.gone == [service, policy, namespace]
    assert found.lines == [
        "Service vmns/external-app is gone",
        "AuthorizationPolicy vmns/deny is gone",
        "Namespace lost is gone",
    ]


def test_what_was_changed_by_hand(world: World) -> None:
    service, live = a_service(world)
    live["spec"]["ports"].insert(0, {"name": "more", "port": 1})
    assert not world.compare(), "what others add to a list of the server's is theirs"
    live["spec"]["ports"][1]["targetPort"] = 8001
    live["metadata"]["labels"] = {}
    found = world.compare()
    assert found.changed == {service: "metadata.labels.app, spec.ports[0].targetPort"}
    assert found.lines == ["Service vmns/external-app was changed: metadata.labels.app, spec.ports[0].targetPort"]
    live["spec"]["ports"].clear()
    assert world.compare().changed == {service: "metadata.labels.app, spec.ports"}


def test_what_is_being_deleted(world: World) -> None:
    service, live = a_service(world)
    live["metadata"]["deletionTimestamp"] = "2026-11-21T03:00:00Z"
    assert world.compare().changed == {service: "it is being deleted"}


def test_what_is_added_to_a_policy_opens_it(world: World) -> None:
    """A policy that denies by having no rules, and one with a rule; and a default that a newer definition fills in."""
    urn, live = a_policy(world, {"selector": {"matchLabels": {"app": "web"}}})
    live["spec"]["rules"] = [{}]
    assert not world.compare(), "nobody owns it, so the server itself filled it in"
    by_hand = {"f:spec": {"f:rules": {}}}
    live["metadata"]["managedFields"] = [{"manager": "kubectl-edit", "operation": "Update", "fieldsV1": by_hand}]
    assert world.compare().changed == {urn: "spec.rules"}


def test_a_rule_that_is_added_to_others(world: World) -> None:
    urn, live = a_policy(world, {"rules": [{"to": []}]})
    live["spec"]["rules"].append({})
    assert world.compare().changed == {urn: "spec.rules"}


def test_what_is_not_ours_is_not_compared(world: World, api: Api) -> None:
    """Reads, what is about to be deleted, and what a killed run left without an id."""
    for further in ({"external": True}, {"delete": True}, {"id": ""}):
        kept = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "lost"}}
        world.applied("kubernetes:core/v1:Namespace", kept, kept, **further)
    assert not world.compare()


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("/apis/apps/v1/namespaces/istio-system/deployments", "Deployment istio-system/istiod"),
        ("/api/v1/namespaces/istio-system/services", "Service istio-system/istiod"),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles/istiod", "ClusterRole istiod"),
        (
            "/apis/security.istio.io/v1",
            "CustomResourceDefinition authorizationpolicies.security.istio.io",
        ),
    ],
)
def test_a_release_that_lacks_an_object(world: World, api: Api, path: str, missing: str) -> None:
    release = a_release(world)
    assert not world.compare()
    del api.objects[path]
    found = world.compare()
    assert list(found.releases) == [release]
    assert found.lines == [f"Helm release istiod lacks {missing}"]


def test_one_namespace_is_asked_for_once(world: World, api: Api) -> None:
    """A hundred objects take as many questions as there are kinds and namespaces."""
    for i in range(100):
        metadata = {"name": f"s{i}", "namespace": "vmns"}
        live = world.put(SERVICES, {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {}})
        world.applied("kubernetes:core/v1:Service", live, live)
    asked: list[str] = []

    class Asked(ApiCluster):
        def get(self, path: str) -> Any:
            asked.append(path)
            return super().get(path)

        def items(self, path: str, selector: str = "") -> Any:
            asked.append(path)
            return super().items(path, selector)

    assert not compare({"resources": world.resources}, Asked(api.kubeconfig))
    assert asked == ["/api/v1", SERVICES]


def test_no_answer_is_an_error(world: World, api: Api) -> None:
    a_service(world)
    api.url = "http://127.0.0.1:9"
    with pytest.raises(KubeError):
        world.compare()
