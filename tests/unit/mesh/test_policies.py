"""What PeerAuthentications and AuthorizationPolicies say, and of whom."""

from __future__ import annotations

from typing import Any

from components.mesh.policies import authorization_spec
from tests.unit.test_components import Recorder, run_program
from tests.unit.test_settings import LAB, put


def of_kind(made: Recorder, kind: str) -> dict[tuple[str, str], dict[str, Any]]:
    """(namespace, name) to spec."""
    found = [args.inputs for args in made.made.values() if args.inputs.get("kind") == kind]
    return {(inputs["metadata"]["namespace"], inputs["metadata"]["name"]): inputs["spec"] for inputs in found}


def test_a_policy_admits_these_accounts_and_nobody_else() -> None:
    assert authorization_spec("helloworld", ["vmns/external-app", "sample/curl"], "corp.example") == {
        "selector": {"matchLabels": {"app": "helloworld"}},
        "action": "ALLOW",
        "rules": [
            {
                "from": [
                    {
                        "source": {
                            "principals": ["corp.example/ns/sample/sa/curl", "corp.example/ns/vmns/sa/external-app"]
                        }
                    }
                ]
            }
        ],
    }


def test_the_order_of_accounts_is_no_change() -> None:
    assert authorization_spec("a", ["x/1", "x/2"], "d") == authorization_spec("a", ["x/2", "x/1"], "d")


def test_the_meshs_own_mode_is_in_istios_namespace(lab: Recorder) -> None:
    assert of_kind(lab, "PeerAuthentication") == {("istio-system", "default"): {"mtls": {"mode": "STRICT"}}}


def test_a_namespace_has_a_mode_of_its_own() -> None:
    tables = put(LAB, "policies.mtls", "PERMISSIVE")
    tables = put(tables, "policies.namespaceMtls", {"vmns": "STRICT"})
    assert of_kind(run_program(tables), "PeerAuthentication") == {
        ("istio-system", "default"): {"mtls": {"mode": "PERMISSIVE"}},
        ("vmns", "default"): {"mtls": {"mode": "STRICT"}},
    }


def test_every_policy_of_the_settings_is_there_with_the_meshs_trust_domain() -> None:
    made = of_kind(run_program(put(LAB, "mesh.trustDomain", "corp.example")), "AuthorizationPolicy")
    assert made == {
        ("sample", "helloworld"): authorization_spec(
            "helloworld", ["sample/curl", "sample/helloworld-vm", "vmns/external-app"], "corp.example"
        ),
        ("vmns", "external-app"): authorization_spec(
            "external-app", ["sample/curl", "sample/helloworld-vm"], "corp.example"
        ),
    }


def test_policies_of_one_name_may_be_in_two_namespaces() -> None:
    tables = put(LAB, "policies.authorization.1.name", "helloworld")
    assert of_kind(run_program(tables), "AuthorizationPolicy").keys() == {
        ("sample", "helloworld"),
        ("vmns", "helloworld"),
    }


def test_a_policy_selects_pods_and_vms_alike(lab: Recorder) -> None:
    selected = of_kind(lab, "AuthorizationPolicy")["sample", "helloworld"]["selector"]["matchLabels"]
    vms = of_kind(lab, "WorkloadGroup")["sample", "helloworld-vm"]["metadata"]["labels"]
    pods = lab.made["deployment/sample/helloworld-v1"].inputs["spec"]["template"]["metadata"]["labels"]
    assert selected.items() <= vms.items()
    assert selected.items() <= pods.items()
