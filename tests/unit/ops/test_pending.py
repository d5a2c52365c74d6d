"""What becomes of the operations that were under way when a run was killed."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from typing import Any, cast

import pytest

from actions.kube import ApiCluster
from ops import pending, state
from ops.objects import RELEASE, place
from ops.workspace import Stack
from tests.unit.ops.conftest import World, command, machine, provider, secret, urn

KIND = "kubernetes:security.istio.io/v1:AuthorizationPolicy"
API = "/apis/security.istio.io/v1"
PATH = f"{API}/namespaces/vmns/authorizationpolicies/allow"
STACK = {"urn": urn("pulumi:pulumi:Stack", "istio-vms-lab"), "type": "pulumi:pulumi:Stack", "custom": False}
NAMESPACE = {"urn": urn("kubernetes:core/v1:Namespace", "n"), "type": "kubernetes:core/v1:Namespace", "custom": True}
NAMESPACE |= {"id": "vmns", "inputs": {}, "outputs": {"apiVersion": "v1", "kind": "Namespace"}}


class Cluster:
    """A cluster in memory."""

    def __init__(self, objects: dict[str, dict[str, Any]]) -> None:
        self.objects = objects
        self.edits: list[tuple[str, Sequence[Any]]] = []
        served = {"kind": "AuthorizationPolicy", "name": "authorizationpolicies", "namespaced": True}
        self.groups = {API: {"resources": [served]}}

    def get(self, path: str) -> Any:
        return self.groups.get(path) or self.objects.get(path)

    def items(self, path: str, selector: str = "") -> list[Any]:
        return [one for where, one in self.objects.items() if where.rpartition("/")[0] == path]

    def edit(self, path: str, operations: Sequence[Any]) -> Any:
        self.edits.append((path, operations))
        return self.objects[path]

    def delete(self, path: str) -> bool:
        return self.objects.pop(path, None) is not None


def owner(
    manager: str, operation: str = "Apply", time: str = "2026-11-21T03:00:00Z", fields: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "time": time, "fieldsV1": fields or {}}


def policy(*owners: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    known = {"name": "allow", "namespace": "vmns", "resourceVersion": "7", "managedFields": list(owners), **metadata}
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": known, "spec": {"x": 1}}


def begun(kind: str = "creating", name: str = "policies-allow", **further: Any) -> dict[str, Any]:
    """An operation on the policy, as an export without secrets shown has it."""
    inputs = {
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "allow", "namespace": "vmns"}, "spec": {"x": 1},
    }  # fmt: skip
    resource = {"urn": urn(KIND, name), "custom": True, "type": KIND, "inputs": inputs, "parent": STACK["urn"]}
    resource |= {"dependencies": [NAMESPACE["urn"]], "provider": f"{provider('K')['urn']}::id"}
    return {"type": kind, "resource": {**resource, **further}}


def settled(
    stack: Stack, cluster: Cluster | None, operations: list[dict[str, Any]], *resources: dict[str, Any]
) -> dict[str, Any]:
    """The state after all is settled."""
    known = [STACK, provider("K"), NAMESPACE, *resources]
    deployment = copy.deepcopy({"resources": known, "pending_operations": operations})
    for change in pending.settle(stack, deployment, operations, cast(ApiCluster | None, cluster)):
        change(deployment)
    return deployment


def named(deployment: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {state.name(one["urn"]): one for one in deployment["resources"]}


def test_an_object_that_was_made_goes_into_the_state_as_its_provider_would_have_put_it(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    live = policy(owner("pulumi-kubernetes-1a"), owner("pilot-discovery", "Update"))
    cluster = Cluster({PATH: live})
    after = settled(stack, cluster, [begun()])
    assert after["pending_operations"] == []
    made = after["resources"][-1]
    assert made == {
        **begun()["resource"],
        "id": "vmns/allow",
        "initErrors": [pending.CUT_OFF],
        "outputs": {
            **live,
            "__inputs": begun()["resource"]["inputs"],
            "__initialApiVersion": "security.istio.io/v1",
            "__fieldManager": "pulumi-kubernetes-1a",
        },
    }
    assert place(made).name == "allow"
    assert not cluster.edits
    said = capsys.readouterr().out
    assert "AuthorizationPolicy vmns/allow was made by a run that was cut off; it goes into the state" in said


@pytest.mark.parametrize(
    "live",
    [
        None,
        policy(owner("kubectl-create", "Update")),
        policy(owner("pulumi-kubernetes-1a"), deletionTimestamp="2026-11-21T03:00:00Z"),
        policy(owner("pulumi-kubernetes-1a") | {"subresource": "status"}),
    ],
    ids=["not there", "somebody else's", "being deleted", "only its status"],
)
def test_an_object_that_was_not_made_stays_out_of_the_state(stack: Stack, live: dict[str, Any] | None) -> None:
    after = settled(stack, Cluster({PATH: live} if live else {}), [begun()])
    assert after["pending_operations"] == []
    assert "policies-allow" not in named(after)


def test_earlier_runs_that_were_killed_own_nothing_any_more(stack: Stack) -> None:
    entries = [
        owner("pulumi-kubernetes-new", time="2026-11-21T04:00:00Z", fields={"f:spec": {"f:x": {}}}),
        owner("pulumi-kubernetes-old", fields={"f:spec": {"f:y": {}}}),
        owner("pilot-discovery", "Update"),
    ]
    cluster = Cluster({PATH: policy(*entries)})
    after = settled(stack, cluster, [begun()])
    assert named(after)["policies-allow"]["outputs"]["__fieldManager"] == "pulumi-kubernetes-new"
    ((path, (version, owned)),) = cluster.edits
    assert path == PATH
    assert version == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    assert owned["value"] == [entries[2], {**entries[0], "fieldsV1": {"f:spec": {"f:x": {}, "f:y": {}}}}]


def test_an_object_that_was_posted_gets_a_manager_of_its_own(stack: Stack) -> None:
    """Without upsert the provider makes objects as `pulumi-kubernetes`, and takes them over at the first update."""
    after = settled(stack, Cluster({PATH: policy(owner("pulumi-kubernetes", "Update"))}), [begun()])
    assert named(after)["policies-allow"]["outputs"]["__fieldManager"].startswith("pulumi-kubernetes-")


def test_secrets_stay_secret(stack: Stack) -> None:
    """The inputs are taken over encrypted as they are; what the cluster shows of them is marked."""
    hidden = {state.SECRET: "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "v1:x"}
    inputs = {**begun()["resource"]["inputs"], "spec": hidden}
    operation = begun(inputs=inputs)
    live = policy(owner("pulumi-kubernetes-1a"))
    deployment = {"resources": [STACK, provider("K"), NAMESPACE], "pending_operations": [copy.deepcopy(operation)]}
    shown = copy.deepcopy(operation)
    shown["resource"]["inputs"]["spec"] = secret({"x": 1})
    cluster = cast(ApiCluster, Cluster({PATH: live}))
    for change in pending.settle(stack, deployment, [shown], cluster):
        change(cast(dict[str, Any], deployment))
    made = cast(dict[str, Any], deployment["resources"][-1])
    assert made["inputs"]["spec"] == made["outputs"]["__inputs"]["spec"] == hidden
    assert made["outputs"]["spec"] == secret({"x": 1})


def test_the_replacement_of_one_that_is_deleted_takes_its_place(stack: Stack) -> None:
    """In the state what depends on it stays behind it."""
    old = {**begun()["resource"], "id": "vmns/allow", "pendingReplacement": True}
    later = {**NAMESPACE, "urn": urn("kubernetes:core/v1:Namespace", "later"), "dependencies": [old["urn"]]}
    after = settled(stack, Cluster({PATH: policy(owner("pulumi-kubernetes-1a"))}), [begun()], old, later)
    assert [state.name(one["urn"]) for one in after["resources"]] == [
        "istio-vms-lab",
        "p",
        "n",
        "policies-allow",
        "later",
    ]
    assert "pendingReplacement" not in named(after)["policies-allow"]


def test_the_replacement_beside_one_of_another_name_is_removed(stack: Stack) -> None:
    old = {**begun()["resource"], "id": "vmns/before"}
    cluster = Cluster({PATH: policy(owner("pulumi-kubernetes-1a"))})
    after = settled(stack, cluster, [begun()], old)
    assert named(after)["policies-allow"] == old
    assert not cluster.objects


def test_what_another_resource_has_is_left_to_it(stack: Stack) -> None:
    """As when one is renamed in the program, and the run is killed as the new name takes the object over."""
    old = {**begun(name="policies-before")["resource"], "id": "vmns/allow"}
    cluster = Cluster({PATH: policy(owner("pulumi-kubernetes-1a"))})
    after = settled(stack, cluster, [begun()], old)
    assert set(named(after)) == {"istio-vms-lab", "p", "n", "policies-before"}
    assert cluster.objects


def test_without_an_answer_of_the_cluster_they_stay_for_the_next_run(stack: Stack) -> None:
    after = settled(stack, None, [begun(), begun("updating"), {"type": "creating", "resource": machine("lab-a")}])
    assert [(one["type"], state.name(one["resource"]["urn"])) for one in after["pending_operations"]] == [
        ("creating", "policies-allow")
    ]


@pytest.mark.parametrize("operation", ["updating", "deleting"])
@pytest.mark.parametrize(
    "resource",
    [
        {**begun()["resource"], "id": "vmns/allow"},
        {**command("vm-1-join", "workloads.join", {}), "id": "vm-1-join"},
        {"urn": urn(RELEASE, "istiod"), "type": RELEASE, "custom": True, "id": "istio-system/istiod"},
    ],
    ids=["object", "command", "release"],
)
def test_what_was_being_changed_or_deleted_is_brought_to_what_is_wanted(
    stack: Stack, operation: str, resource: dict[str, Any]
) -> None:
    going = {**resource, "delete": True}
    after = settled(stack, Cluster({}), [{"type": operation, "resource": resource}], resource, going)
    assert after["pending_operations"] == []
    assert after["resources"][-2:] == [{**resource, "initErrors": [pending.CUT_OFF]}, going]


def test_providers_are_not_touched(stack: Stack) -> None:
    after = settled(stack, Cluster({}), [{"type": "updating", "resource": provider("K")}])
    assert "initErrors" not in named(after)["p"]


def test_a_cluster_that_was_given_back_is_taken_anew(stack: Stack, api: Any) -> None:
    document = {"kubeconfig": api.kubeconfig, "owner": "istio-vms/lab"}
    claim = {**command("cluster-claim", "cluster.claim", document), "id": "claim"}
    operation = {"type": "deleting", "resource": claim}
    assert "cluster-claim" not in named(settled(stack, None, [operation], claim))
    api.objects["/api/v1/namespaces/kube-system/configmaps/istio-vms"] = {"data": {"owner": "istio-vms/lab"}}
    assert named(settled(stack, None, [operation], claim))["cluster-claim"]["initErrors"]


def test_machines_and_nodes_that_were_begun(world: World) -> None:
    kind = "command:remote:Command"
    names = ["lab-a-machine", "lab-b-k3s", "lab-b-node", "vm-1-join"]
    begun = [{"type": "creating", "resource": {"urn": urn(kind, name)}} for name in names]
    changed = {"type": "updating", "resource": {"urn": urn(kind, "lab-c-machine")}}
    assert pending.machines_of([*begun, changed]) == ["lab-a", "lab-b", "lab-b"]
    assert json.dumps(begun)
