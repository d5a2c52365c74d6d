"""What a killed run leaves behind: locks, pending operations, half-installed releases, stopped and orphaned machines."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops import releases, state
from ops import repair as repairing
from ops.errors import OpsError
from ops.objects import RELEASE
from ops.repair import Repaired, clear_up, remember, repair, sweep
from ops.workspace import Stack
from tests.unit.ops.conftest import Api, World, command, machine, provider, secret, urn

HELM = """\
#!/bin/sh
stat -c %a "$KUBECONFIG" >"$FAKE_WORLD/helm.mode"
cp "$KUBECONFIG" "$FAKE_WORLD/helm.kubeconfig"
echo "$*" >>"$FAKE_WORLD/helm.words"
env >"$FAKE_WORLD/helm.env"
[ ! -e "$FAKE_WORLD/helm.fails" ] || { echo "Error: timed out" >&2; exit 1; }
"""


def release(inputs: dict[str, Any], name: str = "istiod") -> dict[str, Any]:
    return {
        "type": "creating",
        "resource": {"urn": urn(RELEASE, name), "type": RELEASE, "inputs": inputs},
    }


# --------------------------------------------------------------------------------------------- the lock


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is called pulumi."""
    program = tmp_path / "pulumi"
    program.symlink_to("/bin/sleep")
    started = subprocess.Popen([program, "60"])
    yield started
    started.kill()
    started.wait()


def lock(stack: Stack, pid: int, host: str = "") -> Path:
    assert stack.local_backend
    path = stack.local_backend / f".pulumi/locks/organization/istio-vms/{stack.name}/b5f1.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {"pid": pid, "username": "ada", "hostname": host or socket.gethostname()}
    path.write_text(json.dumps({**named, "timestamp": "2026-11-21T03:00:00Z"}))
    return path


def test_the_lock_of_a_dead_process_goes(
    stack: Stack, process: subprocess.Popen[bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    path = lock(stack, process.pid)
    repair(stack)
    assert not path.exists()
    assert f"removing the lock of process {process.pid}" in capsys.readouterr().out


def test_the_lock_of_a_process_nobody_waited_for_goes(stack: Stack, process: subprocess.Popen[bytes]) -> None:
    path = lock(stack, process.pid)
    process.send_signal(signal.SIGKILL)
    while "Z" not in Path(f"/proc/{process.pid}/stat").read_text():
        time.sleep(0.01)
    repair(stack)
    assert not path.exists()


def test_a_process_that_only_has_the_number_holds_no_lock(stack: Stack) -> None:
    path = lock(stack, os.getpid())
    repair(stack)
    assert not path.exists()


def test_the_lock_of_a_living_process_stops_us(stack: Stack, process: subprocess.Popen[bytes]) -> None:
    path = lock(stack, process.pid)
    with pytest.raises(OpsError) as raised:
        repair(stack)
    for word in (str(process.pid), "ada", "2026-11-21T03:00:00Z", "Wait for its end"):
        assert word in str(raised.value)
    assert "cancel" not in str(raised.value), "it is seen to live"
    assert path.exists()


def test_another_hosts_lock_stops_us(stack: Stack) -> None:
    path = lock(stack, 1, host="elsewhere")
    with pytest.raises(OpsError, match=r"on elsewhere .*when you know that it is dead, .*: pulumi cancel --stack lab"):
        repair(stack)
    assert path.exists()


def test_another_stacks_lock_does_not(stack: Stack, process: subprocess.Popen[bytes]) -> None:
    path = lock(Stack("lab-two", stack.env), process.pid)
    repair(stack)
    assert path.exists()


# --------------------------------------------------------------------------------------------- pending operations


def test_nothing_pending_nothing_done(stack: Stack, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.program("helm", HELM)
    world.put("deployment.json", {"resources": [machine("lab-a")]})
    world.put("machines.list.json", [{"name": "lab-a", "state": "running"}])
    assert repair(stack) == Repaired([], [])
    assert not world.calls("stack", "import")
    assert not (world.folder / "helm.words").exists()
    assert world.requests("machines.update") == []
    assert capsys.readouterr().out == ""


def test_pending_operations_are_named_and_forgotten(
    stack: Stack, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = "command:local:Command"
    pending = [{"type": "creating", "resource": {"urn": urn(kind, name), "type": kind}} for name in ("b", "a", "b")]
    world.put("deployment.json", {"resources": [{"urn": "u", "type": "t"}], "pending_operations": pending})
    repair(stack)
    assert "cut off while it worked on a, b\n" in capsys.readouterr().out
    imported = json.loads((world.folder / "imported.json").read_text())
    assert imported["deployment"]["secrets_providers"]
    assert imported["deployment"]["resources"] == [{"urn": "u", "type": "t"}]
    assert imported["deployment"]["pending_operations"] == []
    # What goes through a file is the state as it is kept, with its secrets encrypted.
    assert "--show-secrets" not in world.calls("stack", "export")[-2]["words"]
    assert (world.folder / "imported.mode").read_text() == "0o600"
    assert sorted(path.name for path in stack.folder.iterdir()) == ["Pulumi.lab.yaml"]


def test_a_release_being_installed_is_removed(stack: Stack, world: World, api: Api) -> None:
    world.program("helm", HELM)
    pending = [
        release({"name": "istiod-1", "namespace": "istio-system"}),
        release({"name": secret("base"), "namespace": secret("system")}, "base"),
        release({"name": "no-namespace"}, "third"),
    ]
    world.put("deployment.json", {"resources": [provider(api.kubeconfig)], "pending_operations": pending})
    repair(stack)
    words = (world.folder / "helm.words").read_text().splitlines()
    assert [line.split()[:4] for line in words] == [
        ["uninstall", "istiod-1", "--namespace", "istio-system"],
        ["uninstall", "base", "--namespace", "system"],
        ["uninstall", "no-namespace", "--namespace", "default"],
    ]
    assert all("--wait --timeout 90s" in line for line in words)
    assert (world.folder / "helm.mode").read_text() == "600\n"
    assert (world.folder / "helm.kubeconfig").read_text() == api.kubeconfig
    assert api.token not in "".join(words) + (world.folder / "helm.env").read_text()
    assert not list(stack.folder.glob("tmp*"))
    assert world.calls("stack", "import")


@pytest.mark.parametrize(("kind", "operation"), [("kubernetes:core/v1:Namespace", "creating")])
def test_other_things_in_the_cluster_are_left_alone(
    stack: Stack, world: World, api: Api, kind: str, operation: str
) -> None:
    world.program("helm", HELM)
    pending = {"type": operation, "resource": {"urn": urn(kind, "x"), "type": kind, "inputs": {"name": "x"}}}
    world.put("deployment.json", {"resources": [provider(api.kubeconfig)], "pending_operations": [pending]})
    repair(stack)
    assert not (world.folder / "helm.words").exists()


def test_a_release_with_a_generated_name_is_left_alone(
    stack: Stack, world: World, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    world.program("helm", HELM)
    world.put(
        "deployment.json", {"resources": [provider(api.kubeconfig)], "pending_operations": [release({}, "gateway")]}
    )
    repair(stack)
    assert "gateway has a generated name and is left as it is" in capsys.readouterr().out
    assert not (world.folder / "helm.words").exists()
    assert world.calls("stack", "import")


def test_a_cluster_that_does_not_answer_is_passed_over(
    stack: Stack, world: World, api: Api, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repairing, "CLUSTER_SECONDS", 0.2)
    world.program("helm", HELM)
    api.objects.clear()
    api.url = "http://127.0.0.1:9"
    world.put(
        "deployment.json",
        {"resources": [provider(api.kubeconfig)], "pending_operations": [release({"name": "istiod-1"})]},
    )
    repair(stack)
    said = capsys.readouterr().out
    assert "the cluster does not answer, what is unfinished there is left as it is: " in said
    assert not (world.folder / "helm.words").exists()
    assert world.calls("stack", "import")


@pytest.mark.parametrize("cause", ["helm fails", "helm is missing", "helm hangs"])
def test_helm_that_does_not_do_it_is_passed_over(
    stack: Stack,
    world: World,
    api: Api,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    cause: str,
) -> None:
    world.program("helm", HELM)
    if cause == "helm fails":
        world.put("helm.fails", "")
    elif cause == "helm hangs":
        monkeypatch.setattr(releases, "HELM_SECONDS", 0.3)
        world.program("helm", "#!/bin/sh\nexec sleep 20\n")
    else:
        stack = Stack("lab", {**stack.env, "PATH": f"{world.bin}:{Path(sys.executable).parent}:/usr/bin:/bin"})
        (world.bin / "helm").unlink()
    pending = [release({"name": "istiod-1"})]
    world.put("deployment.json", {"resources": [provider(api.kubeconfig)], "pending_operations": pending})
    repair(stack)
    reason = {"helm fails": "Error: timed out", "helm is missing": "No such file", "helm hangs": "timed out after"}
    said = capsys.readouterr().out
    assert "going on, though helm could not remove istiod-1: " in said
    assert reason[cause] in said
    assert world.calls("stack", "import")


def test_down_does_not_wait_for_the_cluster_nor_start_machines(stack: Stack, world: World, api: Api) -> None:
    world.program("helm", HELM)
    resources = [machine("lab-a"), provider(api.kubeconfig)]
    world.put("deployment.json", {"resources": resources, "pending_operations": [release({"name": "istiod-1"})]})
    assert repair(stack, to_destroy=True) == Repaired()
    assert not (world.folder / "helm.words").exists()
    assert not (world.folder / "actions.jsonl").exists()
    assert world.calls("stack", "import")


# --------------------------------------------------------------------------------------------- machines


def test_stopped_machines_start_and_gone_ones_are_replaced(
    stack: Stack, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    machines = [machine(f"lab-{name}") for name in ("a", "b", "c", "d")]
    world.put("deployment.json", {"resources": machines})
    states = {"lab-a": "running", "lab-b": "stopped", "lab-c": "stopped", "lab-other": "stopped"}
    world.put("machines.list.json", [{"name": name, "state": state} for name, state in states.items()])
    repaired = repair(stack)
    assert repaired == Repaired(["lab-b", "lab-c"], [machines[3]["urn"]], False, begun=("lab-other",))
    assert world.requests("machines.list") == [{"driver": "nspawn", "owner": "istio-vms/lab"}]
    started = world.requests("machines.update")
    assert sorted(document["name"] for document in started) == ["lab-b", "lab-c"]
    assert started[0]["user_data"] == "#cloud-config"
    said = capsys.readouterr().out
    assert "machine lab-b is stopped; starting it" in said
    assert "machine lab-d is gone; it will be recreated" in said


def test_a_machine_that_does_not_start_is_named(stack: Stack, world: World) -> None:
    world.put("deployment.json", {"resources": [machine("lab-a")]})
    world.put("machines.list.json", [{"name": "lab-a", "state": "stopped"}])
    world.put("machines.update.error", "no space left; free some")
    with pytest.raises(OpsError, match=r"^machine lab-a could not be started: no space left; free some$"):
        repair(stack)


def test_a_machine_that_is_reached_elsewhere_is_told_to_the_state(
    stack: Stack, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a reboot of the host: one was started by Multipass itself, one by us, one is where it was."""
    machines = [machine(f"lab-{name}", "multipass", f"10.155.0.{i}") for i, name in enumerate(("a", "b", "c"))]
    machines[0]["outputs"]["stdout"] = state.reveal(machines[0]["outputs"]["stdout"])
    untouched = json.loads(json.dumps(machines[2]))
    world.put("deployment.json", {"resources": machines})
    listed = [("lab-a", "running", "10.155.0.9"), ("lab-b", "stopped", ""), ("lab-c", "running", "10.155.0.2")]
    keys = ("name", "state", "address")
    world.put(
        "machines.list.json", [{"host_key": "", "port": 22, **dict(zip(keys, one, strict=True))} for one in listed]
    )
    started = {
        "name": "lab-b",
        "address": "10.155.0.8",
        "port": 22,
        "user": "ubuntu",
        "host_key": "K",
        "state": "running",
    }
    world.put("machines.update.json", started)
    assert repair(stack) == Repaired(["lab-b"], [], compared=False, moved=("lab-a", "lab-b"))
    resources = json.loads((world.folder / "imported.json").read_text())["deployment"]["resources"]
    told = [json.loads(state.reveal(resource["outputs"]["stdout"])) for resource in resources]
    assert told[0] == {**started, "name": "lab-a", "address": "10.155.0.9"}, "a key that is not known stays as it was"
    assert told[1] == started
    assert isinstance(resources[0]["outputs"]["stdout"], str), "what was no secret is none"
    assert resources[2] == untouched
    assert "--show-secrets" not in world.calls("stack", "export")[-2]["words"]
    assert "repair: machine lab-a is reached at 10.155.0.9 now" in capsys.readouterr().out


def test_a_machine_that_runs_without_an_address_is_waited_for(stack: Stack, world: World) -> None:
    world.put("deployment.json", {"resources": [machine("lab-a", "multipass", "10.155.0.1")]})
    world.put("machines.list.json", [{"name": "lab-a", "state": "running", "address": ""}])
    world.put("machines.update.json", {"name": "lab-a", "address": "10.155.0.1"})
    assert repair(stack).started == ["lab-a"]
    assert not (world.folder / "imported.json").exists(), "it has come back where it was"


def test_machines_are_not_followed_to_be_destroyed(stack: Stack, world: World) -> None:
    world.put("deployment.json", {"resources": [machine("lab-a", "multipass", "10.155.0.1")]})
    world.put("machines.list.json", [{"name": "lab-a", "state": "running", "address": "10.155.0.2"}])
    assert repair(stack, to_destroy=True) == Repaired()
    assert not (world.folder / "imported.json").exists()


def test_existing_hosts_are_neither_started_nor_replaced(stack: Stack, world: World) -> None:
    world.put("deployment.json", {"resources": [machine("lab-a", driver="existing")]})
    assert repair(stack) == Repaired([], [])
    assert not (world.folder / "actions.jsonl").exists()


def test_machines_that_never_got_into_the_state_are_swept(
    stack: Stack, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    remember(stack)
    world.put("machines.list.json", [{"name": "lab-a", "state": "stopped"}])
    sweep(stack)
    owner = {"driver": "nspawn", "owner": "istio-vms/lab"}
    assert world.requests("machines.list") == [owner]
    assert world.requests("machines.delete") == [{**owner, "name": "lab-a"}]
    assert "removing machine lab-a" in capsys.readouterr().out


def test_machines_of_a_stack_that_was_never_up_from_here_are_not_swept(stack: Stack, world: World) -> None:
    world.put("machines.list.json", [{"name": "lab-a", "state": "running"}])
    sweep(stack)
    assert not (world.folder / "actions.jsonl").exists()


def test_existing_hosts_are_not_swept(stack: Stack, world: World) -> None:
    (world.project / "Pulumi.lab.yaml").write_text("config:\n  istio-vms:machines: {driver: existing}\n")
    remember(stack)
    sweep(stack)
    assert not (world.folder / "actions.jsonl").exists()


def test_machines_and_nodes_that_are_not_wanted_any_more_go(
    stack: Stack, world: World, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    """After `up`, when it is known what is wanted: a VM and an agent that a killed run began, of which the agent had registered."""
    servers = [{"name": "lab-server-1", "ssh": {"host": "10.89.0.11"}}]
    member = command("n", "cluster.member", {"node": "lab-server-1", "servers": servers})
    world.put("machines.list.json", [{"name": name} for name in ("lab-server-1", "lab-vm-2", "lab-agent-1")])
    api.objects["/api/v1/nodes/lab-agent-1"] = {"metadata": {"name": "lab-agent-1"}}
    kept = {"resources": [machine("lab-server-1"), member, provider(api.kubeconfig)]}
    clear_up(stack, kept, Repaired(begun=("lab-agent-1", "lab-server-1", "lab-vm-2")))
    owner = {"driver": "nspawn", "owner": "istio-vms/lab"}
    gone = [{**owner, "name": name} for name in ("lab-vm-2", "lab-agent-1")]
    assert world.requests("machines.delete") == gone
    assert world.requests("cluster.leave") == [{"node": "lab-agent-1", "servers": servers}]
    said = capsys.readouterr().out
    assert "removing machine lab-vm-2, which an earlier run began and which is not wanted any more" in said
    assert "taking node lab-agent-1 out of the cluster" in said


def test_without_anything_begun_the_driver_is_not_asked(stack: Stack, world: World) -> None:
    clear_up(stack, {"resources": [machine("lab-a")]}, Repaired())
    assert not (world.folder / "actions.jsonl").exists()


# --------------------------------------------------------------------------------------------- the cluster


def test_what_is_gone_from_the_cluster_is_forgotten_with_what_depends_on_it(
    stack: Stack, world: World, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = "kubernetes:core/v1:Namespace"
    api.objects["/api/v1"] = {"resources": [{"kind": "Namespace", "name": "namespaces", "namespaced": False}]}
    api.objects["/api/v1/namespaces/there"] = {"metadata": {"name": "there"}}
    gone, there = (
        {"urn": urn(kind, name), "type": kind, "custom": True, "id": name, "inputs": {}, "outputs": {}}
        for name in ("gone", "there")
    )
    needs = {"dependencies": [gone["urn"], "u"], "propertyDependencies": {"metadata": [gone["urn"]], "spec": None}}
    resources = [provider(api.kubeconfig), gone, {**there, **needs, "deletedWith": gone["urn"]}]
    world.put("deployment.json", {"resources": resources})
    assert repair(stack) == Repaired([], [], again=True)
    assert "Namespace gone is gone; it is made again if it is still wanted" in capsys.readouterr().out
    left = json.loads((world.folder / "imported.json").read_text())["deployment"]["resources"]
    kept = {"dependencies": ["u"], "propertyDependencies": {"metadata": [], "spec": []}}
    assert left == [resources[0], {**there, **kept}]


def test_a_cluster_that_cannot_be_compared_is_passed_over(
    stack: Stack, world: World, api: Api, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = "kubernetes:core/v1:Namespace"
    lost = {"urn": urn(kind, "lost"), "type": kind, "custom": True, "id": "lost", "inputs": {}, "outputs": {}}
    api.url = "http://127.0.0.1:9"
    world.put("deployment.json", {"resources": [provider(api.kubeconfig), lost]})
    assert repair(stack) == Repaired([], [], compared=False)
    assert "what is in the cluster cannot be compared: " in capsys.readouterr().out
    assert not world.calls("stack", "import")


# --------------------------------------------------------------------------------------------- the state


def test_the_kubeconfig_is_found_in_the_provider() -> None:
    other = {"urn": "u", "type": "pulumi:providers:command", "inputs": {"kubeconfig": "no"}}
    bare = {"urn": "v", "type": "pulumi:providers:kubernetes"}
    assert state.kubeconfig({"resources": [other, bare, provider("text")]}) == "text"
    assert state.kubeconfig({"resources": [other, bare]}) is None
    assert state.kubeconfig({"resources": None}) is None


def test_secrets_are_revealed_at_any_depth() -> None:
    assert state.reveal({"a": [secret({"b": 1}), "c"], "d": None}) == {"a": [{"b": 1}, "c"], "d": None}
    assert state.reveal(secret({"inner": secret("x")})) == {"inner": "x"}
