"""What makes a revision the default one, and what waits for the revision's istiod."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pulumi.runtime.mocks import MockMonitor

from actions.mesh.reinject import ReinjectRequest
from actions.protocol import parse
from tests.unit.test_components import Recorder, run_program, stdin
from tests.unit.test_settings import LAB, ROOT, put

ISTIOD = "istiod-1-30"
DEFAULT = "istio-default-revision"
GATEWAYS = ("istio-ingressgateway", "istio-eastwestgateway")


@pytest.fixture(scope="module")
def waits() -> dict[str, set[str]]:
    """What every resource waits for, through whatever is in between."""
    direct: dict[str, set[str]] = {}
    register: Any = MockMonitor.RegisterResource

    def note(self: MockMonitor, request: Any) -> Any:
        answer = register(self, request)
        # A child is registered when its parent is.
        direct[answer.urn] = {urn for urn in (*request.dependencies, request.parent) if urn}
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MockMonitor, "RegisterResource", note)
        run_program(LAB)

    def all_of(urn: str) -> set[str]:
        needed = direct.get(urn, set[str]())  # a stack of a test before this one has none
        return needed.union(*map(all_of, needed))

    return {_name(urn): {_name(one) for one in all_of(urn)} for urn in direct}


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


@pytest.mark.parametrize(
    "name",
    [
        DEFAULT,
        *(f"namespace-{name}" for name in ("sample", "sample-guarded", "vmns")),
        *GATEWAYS,
        f"istio-eastwestgateway-{ISTIOD}-virtualservice",
        "reinjection",
        "vm-1-join",
        "deployment/sample/helloworld-v1",
    ],
)
def test_nothing_moves_to_a_revision_before_its_istiod_is_healthy(waits: dict[str, set[str]], name: str) -> None:
    assert ISTIOD in waits[name]


def test_pods_are_restarted_once_their_namespaces_have_moved_and_before_traffic_is_proven(
    waits: dict[str, set[str]],
) -> None:
    assert {"namespace-sample", "namespace-sample-guarded", "namespace-vmns", DEFAULT} <= waits["reinjection"]
    assert "reinjection" in waits["proof-calls"]


def test_no_machine_gateway_or_member_waits_for_restarts(waits: dict[str, set[str]]) -> None:
    """They take long, and on a first `up` there is nothing to restart."""
    after = {"proof", "proof-calls"}
    assert {name for name, needs in waits.items() if "reinjection" in needs} == after
    assert {name for name, needs in waits.items() if DEFAULT in needs} == after | {"reinjection"}


def test_what_moves_is_in_no_release_of_base_or_an_istiod(lab: Recorder) -> None:
    assert lab.made["istio-base"].inputs["values"]["defaultRevision"] == ""
    assert "revisionTags" not in lab.made[ISTIOD].inputs["values"]
    default = lab.made[DEFAULT].inputs
    assert (default["name"], default["namespace"]) == (DEFAULT, "istio-system")
    assert default["values"] == {"revision": "1-30"}
    assert (ROOT / default["chart"] / "Chart.yaml").exists()


def test_another_revision_updates_the_default_in_place(lab: Recorder) -> None:
    changed = run_program(put(LAB, "mesh.revision", "other")).made
    assert set(lab.made) - set(changed) == {ISTIOD, f"istio-eastwestgateway-{ISTIOD}-virtualservice"}
    assert changed[DEFAULT].inputs["values"] == {"revision": "other"}


def test_values_that_istios_charts_use_for_these_objects_are_handed_on() -> None:
    tables = put(LAB, "mesh.values.istiod.sidecarInjectorWebhook", {"enableNamespacesByDefault": True})
    tables = put(tables, "mesh.values.istiod.istiodRemote", {"injectionURL": "https://other"})
    tables = put(tables, "mesh.values.base", {"base": {"validationFailurePolicy": "Ignore"}, "other": 1})
    assert run_program(tables).made[DEFAULT].inputs["values"] == {
        "revision": "1-30",
        "sidecarInjectorWebhook": {"enableNamespacesByDefault": True},
        "istiodRemote": {"injectionURL": "https://other"},
        "base": {"validationFailurePolicy": "Ignore"},
    }


def test_the_restarts_are_what_the_command_line_reads(lab: Recorder) -> None:
    request = parse(ReinjectRequest, json.dumps(stdin(lab, "reinjection")))
    assert (request.revision, request.namespaces) == ("1-30", ("sample", "sample-guarded", "vmns"))
    assert lab.made["reinjection"].inputs["create"] == "actions/run mesh.reinject"
