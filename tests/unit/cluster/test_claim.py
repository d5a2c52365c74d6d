"""A cluster that someone else made is taken, gone on with and given back; against a fake of its API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from actions.cluster.claim import CONFIG_MAPS, CRDS, NAMESPACES, NOTE, WEBHOOKS, ClaimRequest, claim, release, renew
from actions.kube import KubeError, Unreachable
from actions.protocol import Failure

ROLES = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
OURS = {"meta.helm.sh/release-name": "istio-base", "meta.helm.sh/release-namespace": "istio-system"}
THEIRS = {"meta.helm.sh/release-name": "istio-base", "meta.helm.sh/release-namespace": "mesh"}


class Api:
    """Objects by path; what is deleted is gone at once, and a namespace takes along what is in it."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.allowed = True
        self.version = "v1.32.0+k3s1"
        self.fails: Exception | None = None
        self.deleted: list[str] = []
        for name in ("default", "kube-system"):
            self.put(NAMESPACES, name)
        self.node("b", "10.0.0.2")
        self.node("a", "10.0.0.1")

    def put(self, kind: str, name: str, namespace: str = "", **fields: Any) -> None:
        metadata = {"name": name, "annotations": fields.pop("annotations", {}), "labels": fields.pop("labels", {})}
        path = kind.replace("/v1/", f"/v1/namespaces/{namespace}/") if namespace else kind
        self.objects[f"{path}/{name}"] = {
            "metadata": {**metadata, **({"namespace": namespace} if namespace else {})},
            **fields,
        }

    def node(self, name: str, address: str, ready: str = "True") -> None:
        status = {
            "conditions": [{"type": "Ready", "status": ready}],
            "addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}],
        }
        self.put("/api/v1/nodes", name, status=status)

    def get(self, path: str) -> Mapping[str, Any] | None:
        if self.fails:
            raise self.fails
        return {"gitVersion": self.version} if path == "/version" else self.objects.get(path)

    def items(self, path: str, selector: str = "") -> list[Mapping[str, Any]]:
        base, _, kind = path.rpartition("/")
        key, _, value = selector.partition("=")
        return [
            one
            for where, one in self.objects.items()
            if (where.rpartition("/")[0] == path or (where.startswith(f"{base}/namespaces/") and f"/{kind}/" in where))
            and (not selector or (key in one["metadata"]["labels"] and value in ("", one["metadata"]["labels"][key])))
        ]

    def create(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        if path.endswith("selfsubjectaccessreviews"):
            return {"status": {"allowed": self.allowed}}
        self.objects[f"{path}/{body['metadata']['name']}"] = {**body, "metadata": {"labels": {}, **body["metadata"]}}
        return body

    def replace(self, path: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        assert path in self.objects
        return self.create(path.rpartition("/")[0], body)

    def delete(self, path: str) -> bool:
        self.deleted.append(path)
        for inner in [where for where in self.objects if where.startswith(f"{path}/")]:
            del self.objects[inner]
        return self.objects.pop(path, None) is not None

    def run(self, *_: Any) -> Any:
        raise AssertionError

    def logs(self, *_: Any) -> str:
        raise AssertionError


@pytest.fixture
def api() -> Api:
    return Api()


def request(*namespaces: str, owner: str = "istio-vms/staging") -> ClaimRequest:
    wanted = namespaces or ("istio-system", "vmns")
    return ClaimRequest(kubeconfig="CONFIG", context="staging", owner=owner, namespaces=wanted, timeout_seconds=0.1)


def quiet(_: str) -> None:
    pass


def refused(act: Any, api: Api, *namespaces: str, **fields: Any) -> str:
    before = dict(api.objects)
    with pytest.raises(Failure) as raised:
        act(request(*namespaces, **fields), api, quiet)
    assert api.objects == before, "nothing may have been changed"
    return str(raised.value)


def test_a_cluster_is_taken_by_a_note_and_nothing_else(api: Api) -> None:
    before = set(api.objects)
    assert claim(request(), api, quiet) == {
        "kubeconfig": "CONFIG",
        "version": "v1.32.0+k3s1",
        "node_addresses": ["10.0.0.1", "10.0.0.2"],
    }
    assert set(api.objects) - before == {NOTE}
    assert api.objects[NOTE]["data"] == {"owner": "istio-vms/staging", "namespaces": "istio-system vmns"}


def test_a_run_that_was_killed_takes_it_again_with_what_it_has_made(api: Api) -> None:
    claim(request(), api, quiet)
    api.put(NAMESPACES, "istio-system")
    api.put(CRDS, "gateways.networking.istio.io", spec={"group": "networking.istio.io"}, annotations=OURS)
    claim(request(), api, quiet)


def test_a_namespace_of_others_is_never_taken_over(api: Api) -> None:
    api.put(NAMESPACES, "vmns")
    assert "namespaces already" in refused(claim, api) and "vmns" in refused(claim, api)
    claim(request("istio-system"), api, quiet)
    assert "vmns" in refused(renew, api), "nor one that the settings name later"


def test_two_stacks_do_not_share_a_cluster(api: Api) -> None:
    claim(request(), api, quiet)
    said = refused(claim, api, "istio-system", owner="istio-vms/other")
    assert "in use by stack istio-vms/staging" in said


@pytest.mark.parametrize(
    ("kind", "name", "fields", "says"),
    [
        (CRDS, "a.networking.istio.io", {"spec": {"group": "x.istio.io"}, "annotations": THEIRS}, "Helm release mesh/istio-base"),
        (CRDS, "a.telemetry.istio.io", {"spec": {"group": "telemetry.istio.io"}}, "1 CRDs such as a.telemetry.istio.io"),
        (WEBHOOKS[0], "istio-revision-tag-default", {"labels": {"istio.io/rev": "1-30-3"}}, "of revision 1-30-3"),
        (WEBHOOKS[1], "istio-validator", {"labels": {"istio.io/rev": "default"}}, "webhook istio-validator"),
        (CONFIG_MAPS, "istio-ca-root-cert", {"labels": {"istio.io/config": "true"}, "namespace": "default"}, "1 ConfigMaps of an istiod"),
        (NAMESPACES, "team", {"labels": {"istio-injection": "enabled"}}, "namespace team"),
    ],
)  # fmt: skip
def test_an_istio_of_others_is_in_the_way(api: Api, kind: str, name: str, fields: dict[str, Any], says: str) -> None:
    api.put(kind, name, **fields)
    said = refused(claim, api)
    assert says in said and "remove what is there, or choose another cluster" in said


def test_crds_of_others_are_not_istios(api: Api) -> None:
    api.put(CRDS, "gateways.gateway.networking.k8s.io", spec={"group": "gateway.networking.k8s.io"})
    claim(request(), api, quiet)


@pytest.mark.parametrize("act", [claim, renew])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fails": Unreachable("the cluster's API at https://c does not answer (X)")}, "can it be reached from here"),
        ({"fails": KubeError("GET /version: 401 Unauthorized")}, "refuses its credentials: .*401 Unauthorized. Log in again"),
        ({"allowed": False}, "cluster-admin"),
        ({"version": "v1.31.14"}, "Kubernetes v1.31.14 is too old; upgrade it to 1.32"),
        ({"version": ""}, "too old"),
    ],
)  # fmt: skip
def test_a_cluster_that_is_of_no_use_is_said(api: Api, act: Any, change: dict[str, Any], says: str) -> None:
    for key, value in change.items():
        setattr(api, key, value)
    with pytest.raises(Failure, match=rf"^context staging: (?s:.*){says}"):
        act(request(), api, quiet)


def test_later_versions_are_later(api: Api) -> None:
    api.version = "v2.0.1"
    claim(request(), api, quiet)


def test_some_nodes_may_be_down_but_not_all(api: Api) -> None:
    api.node("a", "10.0.0.1", "False")
    said: list[str] = []
    assert claim(request(), api, said.append)["node_addresses"] == ["10.0.0.1", "10.0.0.2"]
    assert "going on without nodes that are not Ready: a" in said
    api.delete(NOTE)
    api.node("b", "10.0.0.2", "Unknown")
    assert "no node of the cluster is Ready (a, b)" in refused(claim, api)


def test_other_credentials_and_further_namespaces_are_fine(api: Api) -> None:
    claim(request(), api, quiet)
    api.put(NAMESPACES, "vmns")
    assert renew(request("istio-system", "more"), api, quiet)["kubeconfig"] == "CONFIG"
    assert api.objects[NOTE]["data"]["namespaces"] == "istio-system more vmns"


def test_another_cluster_is_refused(api: Api) -> None:
    said = refused(renew, api)
    assert "not the one of this stack" in said and "Nothing was changed" in said
    assert "--from-literal=namespaces='istio-system vmns'" in said
    claim(request(owner="istio-vms/other"), api, quiet)
    assert "stack istio-vms/other has it" in refused(renew, api)


def test_what_is_left_goes_and_nothing_else(api: Api) -> None:
    api.put(ROLES, "admin")
    api.put(ROLES, "theirs", annotations=THEIRS)
    api.put(CONFIG_MAPS, "theirs", namespace="default")
    before = dict(api.objects)
    claim(request(), api, quiet)
    api.put(NAMESPACES, "istio-system")
    api.put(CONFIG_MAPS, "istio", namespace="istio-system")
    api.put(CRDS, "gateways.networking.istio.io", spec={"group": "networking.istio.io"}, annotations=OURS)
    api.put(WEBHOOKS[0], "istio-sidecar-injector", annotations=OURS)
    api.put(ROLES, "istiod-clusterrole", annotations=OURS)
    api.put(CONFIG_MAPS, "istio-ca-root-cert", namespace="default", labels={"istio.io/config": "true"})
    assert release(request(), api, quiet) == {}
    assert api.objects == before
    assert api.deleted.index(f"{NAMESPACES}/istio-system") < api.deleted.index(f"{ROLES}/istiod-clusterrole"), (
        "istiod would write its ConfigMaps again"
    )
    assert api.deleted[-1] == NOTE, "a release that is cut off has to know what is left"


def test_the_cluster_of_another_stack_is_left_alone(api: Api) -> None:
    claim(request(owner="istio-vms/other"), api, quiet)
    api.put(NAMESPACES, "vmns")
    before = dict(api.objects)
    release(request(), api, quiet)
    assert api.objects == before


def test_what_does_not_go_is_said_and_the_note_stays(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(request(), api, quiet)
    api.put(NAMESPACES, "vmns")
    monkeypatch.setattr(api, "delete", lambda path: True)
    with pytest.raises(Failure, match=r"not gone after 0 s; still there: /api/v1/namespaces/vmns"):
        release(request(), api, quiet)
    assert NOTE in api.objects


def test_the_kubeconfig_is_not_shown() -> None:
    assert "CONFIG" not in repr(request())
