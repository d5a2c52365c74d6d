"""Policy protected-machines: what a preview would do to machines, and machines that are not declared any more."""

import pytest

from review.model import Change, Resource
from tests.unit.review.rules.conftest import BY_NAME, resource

RULE = BY_NAME["protected-machines"]
OWNER = "istio-vms:machines:Machine$command:local:Command"


def machine(name: str) -> Resource:
    return resource(OWNER, {}, name=f"{name}-machine")


def change(op: str, of: Resource) -> Change:
    return Change(op, of.urn)


def kept(*changes: Change, **options: list[str]) -> list[str]:
    assert RULE.changes
    return [violation.message for violation in RULE.changes(changes, RULE.configured(options))]


def present(*resources: Resource, machines: list[str]) -> list[str]:
    assert RULE.stack
    return [violation.message for violation in RULE.stack(resources, RULE.configured({"machines": machines}))]


@pytest.mark.parametrize(
    ("op", "verb"),
    [
        ("delete", "deleted"),
        ("replace", "replaced"),
        ("create-replacement", "replaced"),
        ("delete-replaced", "replaced"),
    ],
)
def test_a_machine_is_neither_deleted_nor_replaced(op: str, verb: str) -> None:
    (message,) = kept(change(op, machine("prod-vm-1")))
    assert message.startswith(f"machine prod-vm-1 would be {verb}")


@pytest.mark.parametrize("op", ["create", "update", "same", "read", "refresh"])
def test_a_machine_may_be_made_and_changed(op: str) -> None:
    assert kept(change(op, machine("prod-vm-1"))) == []


def test_the_steps_of_one_replacement_are_one_violation() -> None:
    ops = ("create-replacement", "replace", "delete-replaced")
    assert len(kept(*(change(op, machine("prod-vm-1")) for op in ops))) == 1


def test_what_is_on_a_machine_is_not_the_machine() -> None:
    joined = resource("istio-vms:workloads:VmMember$command:local:Command", {}, name="vm-1-join")
    other = resource("command:local:Command", {}, name="washing-machine")
    assert kept(change("replace", joined), change("replace", other)) == []


def test_names_and_patterns_choose_machines() -> None:
    changes = [change("delete", machine(name)) for name in ("prod-server-1", "prod-vm-1", "prod-vm-2")]
    assert len(kept(*changes)) == 3
    assert len(kept(*changes, machines=["prod-vm-*"])) == 2
    assert len(kept(*changes, machines=["prod-vm-1"])) == 1
    assert kept(*changes, machines=[]) == []


def test_a_protected_machine_is_declared() -> None:
    assert present(machine("prod-vm-1"), machines=["prod-vm-1", "prod-vm-*"]) == []
    (message,) = present(machine("prod-vm-1"), machines=["prod-vm-2"])
    assert message.startswith("machine prod-vm-2 is not in the stack")
