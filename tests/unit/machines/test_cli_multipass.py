"""The command line that Pulumi runs, with the Multipass driver and the fake `multipass`: documents in, documents out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actions.machines.cloud_init import CloudInit, render
from actions.machines.keys import make_pair
from actions.samples.application import sample_application
from tests.fakes.multipass_world import FakeMultipass

ROOT = Path(__file__).parents[3]
OWNER = "istio-vms/lab"


class Operator:
    """Someone who runs `python -m actions machines.…`."""

    def __init__(self, folder: Path) -> None:
        self.fake = FakeMultipass(folder)
        self.home = folder / "home"
        self.home.mkdir()

    def run(self, verb: str, document: Any) -> subprocess.CompletedProcess[str]:
        text = document if isinstance(document, str) else json.dumps(document)
        environment = os.environ | self.fake.environment | {"HOME": str(self.home)}
        command = [sys.executable, "-m", "actions", f"machines.{verb}"]
        return subprocess.run(
            command, input=text, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120
        )

    def ask(self, verb: str, document: Any) -> Any:
        ran = self.run(verb, document)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)


@pytest.fixture
def operator(tmp_path: Path) -> Iterator[Operator]:
    yield Operator(tmp_path)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    files, commands = sample_application("hello", (8080,))
    machine = CloudInit("lab-hello-1", "ubuntu", (make_pair()[1],), files=files, commands=commands)
    return {
        "driver": "multipass",
        "name": "lab-hello-1",
        "owner": OWNER,
        "cpus": 1,
        "memory_mib": 1024,
        "disk_gib": 5,
        "image": "24.04",
        "user": "ubuntu",
        "user_data": render(machine),
        "network": {"name": "default"},
        "mounts": [],
        "options": {},
    }


def test_a_machines_life(operator: Operator, document: dict[str, Any]) -> None:
    asked = {"driver": "multipass", "owner": OWNER, "options": {}}
    state = operator.ask("ensure", document)
    assert sorted(state) == ["address", "host_key", "name", "port", "state", "user"]
    assert (state["name"], state["port"], state["user"], state["state"]) == ("lab-hello-1", 22, "ubuntu", "running")
    written = operator.fake.root("lab-hello-1") / "etc/systemd/system/istio-vms-application.service"
    assert "--service hello" in written.read_text()

    assert operator.ask("ensure", document) == state
    assert operator.ask("list", asked) == [state]
    assert operator.ask("ensure", document | {"cpus": 2}) == state
    assert operator.fake.instances["lab-hello-1"]["cpus"] == 2

    for _ in range(2):
        assert operator.ask("delete", asked | {"name": "lab-hello-1"}) == {}
    assert operator.ask("list", asked) == []
    assert operator.fake.instances == {}


def test_a_snapshot_is_taken_and_said(operator: Operator, document: dict[str, Any]) -> None:
    operator.ask("ensure", document)
    taken = operator.ask("snapshot", document)
    (made,) = operator.fake.instances["lab-hello-1"]["snapshots"]
    name = f"lab-hello-1.{made}"
    assert taken == {"machine": "lab-hello-1", "snapshot": name, "restore": f"multipass restore {name}"}


@pytest.mark.parametrize("driver", ["existing", "nspawn"])
def test_drivers_without_snapshots_say_so(operator: Operator, document: dict[str, Any], driver: str) -> None:
    ran = operator.run("snapshot", document | {"driver": driver})
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == f"error: machines of driver {driver} have no snapshots; those of multipass do\n"


def test_a_failures_last_line_says_what_to_do(operator: Operator, document: dict[str, Any]) -> None:
    operator.fake.faults(daemon="down")
    ran = operator.run("ensure", document)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "run this again" in ran.stderr.splitlines()[-1]
    assert "Traceback" not in ran.stderr


def test_someone_elses_machine_is_refused(operator: Operator, document: dict[str, Any]) -> None:
    operator.fake.run("launch", "--name", "lab-hello-1")
    for verb in ("ensure", "delete"):
        ran = operator.run(
            verb, document if verb == "ensure" else {k: document[k] for k in ("driver", "name", "owner")}
        )
        assert ran.returncode == 1
        assert "left alone" in ran.stderr
    assert operator.fake.instances["lab-hello-1"]["boots"] == 1
