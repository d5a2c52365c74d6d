"""The program as it ships keeps every policy, on every stack of the repository, with everything known that is known after `up`."""

import json
from typing import Any

import pytest

from review.model import Resource
from review.rules import RULES
from review.rules.levels import Levels
from review.values import MASKED
from tests.unit.test_components import Recorder, run_program, unwrapped
from tests.unit.test_settings import STACKS, put, stack_file


def resources(recorder: Recorder, stack: str, *, hidden: bool) -> list[Resource]:
    """What the program registered under mocks, with its secrets hidden as in a preview, or shown as to the engine's policies."""

    def seen(value: Any) -> Any:
        if (plain := unwrapped(value)) is not value:
            return MASKED if hidden else seen(plain)
        if isinstance(value, dict):
            return {key: seen(part) for key, part in value.items()}
        return [seen(part) for part in value] if isinstance(value, list) else value

    return [
        Resource(f"urn:pulumi:{stack}::istio-vms::{made.typ}::{name}", seen(dict(made.inputs)), secrets_hidden=hidden)
        for name, made in recorder.made.items()
    ]


def violated(stack: str, tables: dict[str, Any], *, hidden: bool) -> dict[str, list[str]]:
    """Messages by policy, for those with any."""
    made, levels = resources(run_program(tables, stack), stack, hidden=hidden), Levels.of_stack(stack)
    found: dict[str, list[str]] = {}
    for rule in RULES:
        options = levels.options(rule)
        for one in made if rule.resource else ():
            assert rule.resource
            found.setdefault(rule.name, []).extend(rule.resource(one, options))
        if rule.stack:
            found.setdefault(rule.name, []).extend(violation.message for violation in rule.stack(made, options))
    return {name: messages for name, messages in found.items() if messages}


@pytest.mark.parametrize("hidden", [True, False], ids=["secrets hidden", "secrets shown"])
@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_of_the_repository_violates_nothing(stack: str, hidden: bool) -> None:
    assert violated(stack, stack_file(stack), hidden=hidden) == {}


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_file_that_is_copied_by_hand_violates_no_mandatory_policy(stack: str) -> None:
    levels = Levels.of_stack("copied")
    found = violated("copied", stack_file(stack), hidden=True)
    assert {rule.name: levels.level(rule) for rule in RULES if rule.name in found} == {"east-west-exposure": "advisory"}


@pytest.mark.parametrize(
    ("path", "value", "policy"),
    [
        ("policies.mtls", "PERMISSIVE", "mtls-strict"),
        ("policies.namespaceMtls", {"sample": "PERMISSIVE"}, "mtls-strict"),
        ("samples.helloworldImages", {"v1": "helloworld", "v2": "helloworld:1.0"}, "pinned-versions"),
        ("mesh.values.istiod", {"pilot": {"tag": "latest"}}, "pinned-versions"),
        ("mesh.values.istiod", {"pilot": {"env": {"CA_PASSWORD": "hunter2"}}}, "plaintext-secrets"),
        ("mesh.exposedServices", ["sample/helloworld", "vmns/external-app"], "east-west-exposure"),
    ],
)
def test_settings_that_break_a_promise_break_its_policy(path: str, value: Any, policy: str) -> None:
    assert list(violated("dev", put(stack_file("dev"), path, value), hidden=True)) == [policy]


def test_the_inputs_that_policies_are_about_are_there() -> None:
    """Otherwise the program could change its shape and pass because nothing is looked at."""
    made = {one.name: one for one in resources(run_program(stack_file("dev"), "dev"), "dev", hidden=False)}
    assert made["policies-mtls-istio-system"].kind == "PeerAuthentication"
    assert (
        made["istio-eastwestgateway-services-gateway"].inputs["spec"]["servers"][0]["tls"]["mode"] == "AUTO_PASSTHROUGH"
    )
    assert made["istio-base"].inputs["version"]
    assert made["deployment/sample/helloworld-v1"].inputs["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert json.loads(made["dev-server-1-k3s"].inputs["stdin"])["machine"]["host_key"] == "ssh-ed25519 HOST"
    assert json.loads(made["vm-1-join"].inputs["stdin"])["ssh"]["host_key"] == "ssh-ed25519 HOST"
    assert "url=https://" in made["dev-server-1-k3s"].inputs["stdin"]
    assert "url=https://" in json.loads(made["dev-vm-1-machine"].inputs["stdin"])["user_data"]
