"""Machines as their driver knows them, held against the state."""

from __future__ import annotations

from ops.machines import orphans
from ops.workspace import Stack
from tests.unit.ops.conftest import World, machine

OWNER = {"driver": "nspawn", "owner": "istio-vms/lab"}


def test_machines_that_the_state_does_not_have(stack: Stack, world: World) -> None:
    world.put("machines.list.json", [{"name": "lab-a", "state": "running"}, {"name": "lab-b", "state": "stopped"}])
    assert orphans(stack, {"resources": [machine("lab-a")]}) == [{"name": "lab-b", "state": "stopped", **OWNER}]
    assert world.requests("machines.list") == [OWNER]
    assert [one["name"] for one in orphans(stack, {})] == ["lab-a", "lab-b"], "a first run that was killed has no state"


def test_the_drivers_of_state_and_settings_are_asked(stack: Stack, world: World) -> None:
    """A stack whose driver was changed, which replaces every machine, may have lost machines with either."""
    orphans(stack, {"resources": [machine("lab-a", "multipass")]})
    assert world.requests("machines.list") == [OWNER, {**OWNER, "driver": "multipass"}]


def test_existing_hosts_are_nobodys_orphans(stack: Stack, world: World) -> None:
    (world.project / "Pulumi.lab.yaml").write_text("config:\n  istio-vms:machines: {driver: existing}\n")
    assert orphans(stack, {"resources": [machine("lab-a", "existing")]}) == []
    assert not world.requests("machines.list")
