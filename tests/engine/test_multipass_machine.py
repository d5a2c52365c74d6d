"""A Multipass machine in the real engine, with the fake `multipass` on PATH: what a change of its settings does to it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.repair import repair
from ops.workspace import Stack
from tests.engine.harness import Outcome, Program
from tests.fakes.multipass_world import FakeMultipass

ROOT = Path(__file__).parents[2]
NAME = "lab-vm-1"
MACHINE: dict[str, Any] = {
    "cpus": 1,
    "memory": "1Gi",
    "disk": "10Gi",
    "image": "24.04",
    "user_data": "#cloud-config\nhostname: lab-vm-1\n",
    "options": {"networks": [], "timeout_seconds": 60, "snapshots": 1},
}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMultipass:
    made = FakeMultipass(tmp_path)
    for key, value in (made.environment | {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}).items():
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    return made


@pytest.fixture
def program(fake: FakeMultipass, start: Callable[[str], Program]) -> Program:
    made = start("multipass")
    up(made)
    return made


def up(program: Program, **changes: Any) -> Outcome:
    program.configure(machine=MACHINE | changes)
    return program.up()


def test_a_resize_is_an_update_and_what_depends_on_the_address_follows(program: Program, fake: FakeMultipass) -> None:
    before = fake.instances[NAME]
    fake.faults(new_addresses=True)
    outcome = up(program, cpus=2, disk="20Gi")
    assert outcome.steps == {f"{NAME}-machine": "update", "follower": "update"}
    now = fake.instances[NAME]
    assert (now["cpus"], now["disk"], now["boots"]) == (2, 20 * 2**30, 2)
    assert program.outputs()["address"] == now["ipv4"] != before["ipv4"]
    assert [name.rsplit("-", 1)[0] for name in now["snapshots"]] == ["before-resize"]
    assert len(fake.calls("launch")) == 1
    assert up(program, cpus=2, disk="20Gi").steps == {}


def test_a_disk_does_not_shrink_and_says_so(program: Program, fake: FakeMultipass) -> None:
    outcome = up(program, disk="5Gi", cpus=2)
    assert outcome.failed
    assert f"{NAME} has a disk of 10.0GiB and a disk cannot shrink to 5GiB" in outcome.said
    assert (fake.instances[NAME]["state"], fake.instances[NAME]["boots"], fake.calls("stop")) == ("Running", 1, [])
    assert up(program).steps == {}, "back to what it was: nothing has happened"


def test_another_image_makes_another_machine(program: Program, fake: FakeMultipass) -> None:
    outcome = up(program, image="22.04")
    assert ("create-replacement", f"{NAME}-machine") in outcome.order
    assert fake.instances[NAME]["image"] == "22.04"


def test_a_machine_that_came_back_elsewhere_is_followed(program: Program, fake: FakeMultipass) -> None:
    """As after a reboot of the host; nothing has changed for the engine until the state is told."""
    fake.change(NAME, ipv4="10.155.0.77")
    assert up(program).steps == {}
    stack = Stack("organization/multipass/test", {**os.environ, **program.env})
    stack.folder.mkdir(parents=True)
    assert repair(stack).moved == (NAME,)
    outcome = up(program)
    assert outcome.steps == {"follower": "update"}
    assert program.outputs()["address"] == "10.155.0.77"
    assert repair(stack).moved == ()


def test_it_goes_with_the_stack(program: Program, fake: FakeMultipass) -> None:
    program.destroy()
    assert fake.instances == {}


def test_one_whose_mark_was_taken_along_by_leaving_the_mesh_goes_all_the_same(
    program: Program, fake: FakeMultipass
) -> None:
    (fake.root(NAME) / "etc/istio-vms/owner").unlink()
    assert up(program, cpus=2).steps == {f"{NAME}-machine": "update"}
    program.destroy()
    assert fake.instances == {}
