"""The command lines behind `make`, with Pulumi and ssh standing in for themselves."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actions.kube import Ran
from actions.protocol import Failure
from commands import __main__ as cli
from ops import engine, members, proof, workspace
from ops import heal as healing
from ops.workspace import Stack
from tests.unit.ops.conftest import GATEWAYS, NAMES, Api, World, deployment, gateway, machine, outputs, urn
from tests.unit.ops.test_engine import events, said
from tests.unit.ops.test_workspace import mode, traces

FIRST, SECOND = NAMES.values()
EVIDENCE = {
    "vm": "lab-vm-1", "source": "pod sample/curl-7", "url": "http://external-app.vmns.svc:8000/headers", "status": 200,
    "proof": "mutual-tls", "client_identity": "spiffe://cluster.local/ns/sample/sa/curl", "instance": "lab-vm-1",
}  # fmt: skip
SSH = """\
#!/bin/sh
for word in "$@"; do echo "$word"; done >"$FAKE_WORLD/ssh.words"
while [ $# -gt 0 ]; do [ "$1" != -i ] || { stat -c %a "$2"; cat "$2"; } >"$FAKE_WORLD/ssh.key"; shift; done
exit 7
"""


# Before it looks for the first machine's key, a shell on the second one begins and ends.
MEANWHILE = """\
#!/bin/sh
[ "$VM" = vm-2 ] && exit 0
VM=vm-2 sh -c "$ANOTHER" || exit 1
for word in "$@"; do case $word in UserKnownHostsFile=*) known=${word#*=};; */id_ed25519) key=$word;; esac; done
{ grep "^lab-vm-1 " "$known" && cat "$key"; } >"$FAKE_WORLD/known"
"""


def meanwhile() -> None:
    """`make ssh` of another process, in the same world."""
    workspace.ROOT = Path(os.environ["FAKE_WORLD"]).parent / "project"
    sys.argv = ["istio-vms", "ssh"]
    sys.exit(cli.main())


@pytest.fixture(autouse=True)
def lab(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without Multipass."""
    monkeypatch.setenv("PATH", f"{world.bin}:{Path(sys.executable).parent}:/usr/bin:/bin")


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["istio-vms", *words])
    return cli.main()


SYNCED = {f"{kind}_{what}": "n" for kind in ("cluster", "listener", "endpoint", "route") for what in ("sent", "acked")}


@pytest.fixture
def live(world: World, api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    """A lab that is up and well; its VMs have no certificate yet."""
    connected = json.dumps([{"proxy": f"{name}.vmns", **SYNCED} for name in NAMES])
    monkeypatch.setattr("actions.workloads.certificate.read", lambda _: None)
    monkeypatch.setattr("actions.workloads.vm.Vm.run", lambda *_, **__: "")
    monkeypatch.setattr("actions.kube.ApiCluster.run", lambda *_, **__: Ran(0, connected, ""))
    world.put("deployment.json", deployment(api))
    world.put("samples.prove.json", [EVIDENCE])
    api.mesh()
    api.node("lab-server-1")
    api.node("lab-agent-1")
    api.entry(FIRST)
    api.entry(SECOND)
    return api


def after_up(world: World, monkeypatch: pytest.MonkeyPatch, **files: Any) -> None:
    """What the world is like once Pulumi has run: `machines` for what the driver lists, `deployment` for the state."""
    operate = engine.operate
    names = {"machines": "machines.list.json", "deployment": "deployment.json"}

    def operated(*words: Any, **options: str) -> None:
        operate(*words, **options)
        for key, content in files.items():
            world.put(names[key], content)

    monkeypatch.setattr(engine, "operate", operated)


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    """What went to stdout, without the spaces that fill lines up."""
    return re.sub(r" +\n", "\n", capsys.readouterr().out)


def running(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "state": "running"} for name in names]


# --------------------------------------------------------------------------------------------- up and down


def test_up_ends_with_the_summary(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.put("up.out", "Updating (lab):\n")
    assert run(monkeypatch, "up") == 0
    out = capsys.readouterr().out
    assert out.startswith("stack lab (Multipass is not installed); providers: the lab's stand-ins\nUpdating (lab):\n")
    assert "  VM    lab-vm-2      10.89.1.10  healthy" in out
    assert "s; nothing changed in the state" in out
    assert live.token not in out and "PRIVATE KEY" not in out
    assert world.requests("workloads.join") == []
    (call,) = world.calls("up")
    assert {"--yes", "--skip-preview", "--suppress-outputs"} <= set(call["words"])


def test_up_replaces_machines_that_are_gone(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = machine("lab-server-1")
    world.put("deployment.json", deployment(live, gone))
    world.put("machines.list.json", [])
    after_up(world, monkeypatch, machines=running("lab-server-1"))
    assert run(monkeypatch, "up") == 0
    words = world.calls("up")[0]["words"]
    assert words[words.index("--replace") + 1] == gone["urn"]


def test_up_heals_and_says_what_it_could_not(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    live.entry(SECOND, healthy="False")
    assert run(monkeypatch, "up") == 1
    shown = capsys.readouterr()
    assert "heal: lab-vm-2 joins the mesh again" in shown.out
    assert re.search("VM lab-vm-2 is not healthy: no reason given *\n    → start what answers its probe", shown.out)
    assert shown.err.splitlines()[-1] == "error: not all is well with stack lab: 1 finding, see above"


def test_up_goes_on_when_calls_failed_for_a_member_that_needed_healing(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody has stopped a sidecar, and the settings have changed."""
    world.put("up.once", "1")
    world.put("up.events", events(said("error: 1 call(s) failed", "proof-calls")))
    live.entry(SECOND, healthy="False")
    monkeypatch.setattr("ops.members.join", lambda *_, **__: live.entry(SECOND))
    assert run(monkeypatch, "up") == 0
    assert len(world.calls("up")) == 2
    assert capsys.readouterr().out.count("heal: lab-vm-2 joins the mesh again") == 1


@pytest.mark.parametrize("failed", ["proof-calls", "vm-1-join"])
def test_up_fails_when_nothing_needed_healing_or_more_has_failed(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, failed: str
) -> None:
    if failed != "proof-calls":
        live.entry(SECOND, healthy="False")
    world.put("up.once", "1")
    world.put("up.events", events(said("error: it failed", failed)))
    assert run(monkeypatch, "up") == 1
    assert len(world.calls("up")) == 1


def test_up_calls_anew_though_nothing_has_changed_and_tells_when(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "up") == 0
    assert world.requests("samples.prove") == [{"kubeconfig": "K", "timeout_seconds": proof.CALL_SECONDS}]
    out = capsys.readouterr().out
    assert re.search(
        r"  proved at \d\d:\d\d:\d\d:\n  pod sample/curl-7 → http://external-app\S+ on lab-vm-1:\n    200, ", out
    )
    assert "vm lab-vm-1 → http://helloworld" not in out, "which an earlier run has proved"


def test_up_that_cannot_prove_traffic_fails_and_shows_no_evidence(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "[  30.1 s] vm-1 → pods: 503: no\nerror: 2 call(s) failed within 30 s:\n  pod → lab-vm-1: 503: no\n  lab-vm-1 → pods: 403: x: y"
    world.put("samples.prove.error", said)
    assert run(monkeypatch, "up") == 1
    out = printed(capsys)
    assert "call pod → lab-vm-1 failed: 503: no\n    → " in out
    assert "call lab-vm-1 → pods failed: 403: x: y\n    → " in out
    assert "mutual TLS" not in out and "proved" not in out


def test_up_does_not_call_again_what_pulumi_has_just_called(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = deployment(live)
    (calls,) = (one for one in state["resources"] if one["urn"].endswith("proof-calls"))
    calls |= {"modified": "2126-11-21T03:04:05Z", "outputs": {"stdout": json.dumps([EVIDENCE])}}
    world.put("deployment.json", state)
    assert run(monkeypatch, "up") == 0
    assert world.requests("samples.prove") == []
    assert "pod sample/curl-7 → " in capsys.readouterr().out
    live.entry(SECOND, connected=False)
    run(monkeypatch, "up")
    assert world.requests("samples.prove") == [], "it was proved after the member had come back"
    calls["modified"] = "2026-11-21T03:04:05Z"
    world.put("deployment.json", state)
    live.entry(SECOND)
    run(monkeypatch, "up")
    assert len(world.requests("samples.prove")) == 1


def test_up_without_samples_proves_nothing(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = deployment(live)
    state["resources"] = [one for one in state["resources"] if not one["urn"].endswith("proof-calls")]
    world.put("deployment.json", state)
    assert run(monkeypatch, "up") == 0
    assert "proved" not in capsys.readouterr().out
    assert world.requests("samples.prove") == []


def test_up_ends_with_what_status_says(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both gateways without an address: nothing to follow, and nobody gets in."""
    read = [gateway(name, ["10.89.0.11"], **ports) for name, ports in GATEWAYS.items()]
    world.put("deployment.json", deployment(live, *read))
    for name, ports in GATEWAYS.items():
        live.service("istio-system", name, ports=[{"name": key, "port": port} for key, port in ports.items()])
    assert run(monkeypatch, "up") == 1
    up = printed(capsys)
    assert "10.89.0.11  status-port" not in up
    assert run(monkeypatch, "status") == 1
    status = printed(capsys)
    for name in GATEWAYS:
        sentence = f"  gateway {name} has no address: nobody reaches it\n    → "
        assert sentence in up and sentence in status


def test_up_leaves_members_alone_that_have_nothing_to_do_with_a_vm_taken_out(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed had stopped its machine; the next one starts it to take it out in order."""
    before, after = deployment(live, machine("lab-vm-3")), deployment(live)
    world.put("deployment.json", before)
    world.put("machines.list.json", [{"name": "lab-vm-3", "state": "stopped"}])
    after_up(world, monkeypatch, deployment=after, machines=[])
    assert run(monkeypatch, "up") == 0
    assert [one["name"] for one in world.requests("machines.update")] == ["lab-vm-3"]
    assert world.requests("workloads.join") == []


def test_up_looks_after_members_of_machines_it_started(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(healing, "CLUSTER_SECONDS", 1)
    world.put("deployment.json", deployment(live, machine("lab-vm-2")))
    world.put("machines.list.json", [{"name": "lab-vm-2", "state": "stopped"}])
    after_up(world, monkeypatch, machines=running("lab-vm-2"))
    assert run(monkeypatch, "up") == 0
    assert [document["ssh"]["host"] for document in world.requests("workloads.join")] == ["10.89.1.10"]


def test_up_follows_a_machine_to_its_address_and_looks_after_its_member(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("deployment.json", deployment(live, machine("lab-vm-2", "multipass", "10.89.1.10")))
    world.put("machines.list.json", [{"name": "lab-vm-2", "state": "running", "address": "10.89.1.77"}])
    world.put("samples.prove.json", [])
    assert run(monkeypatch, "up") == 0
    assert "10.89.1.77" in (world.folder / "imported.json").read_text()
    assert world.requests("machines.update") == [], "it runs; only its address is another one"
    verbs = [call["words"][0] if call["words"][0] != "stack" else call["words"][1] for call in world.calls()]
    assert verbs.index("import") < verbs.index("up")
    assert len(world.requests("workloads.join")) == 1, "what the cluster says of it may be of before"


def test_up_follows_a_gateway_before_anything_else(world: World, live: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    read = gateway("istio-eastwestgateway", ["10.89.0.11"])
    world.put("deployment.json", deployment(live, read))
    live.service("istio-system", "istio-eastwestgateway", "10.89.0.12")
    after_up(world, monkeypatch, deployment=deployment(live, gateway("istio-eastwestgateway", ["10.89.0.12"])))
    assert run(monkeypatch, "up") == 0
    (call,) = world.calls("up")
    assert call["words"][call["words"].index("--replace") + 1] == read["urn"]


def test_up_follows_a_gateway_after_all_when_machines_had_to_start(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = gateway("istio-eastwestgateway", ["10.89.0.11"])
    world.put("deployment.json", deployment(live, read, machine("lab-vm-2")))
    world.put("machines.list.json", [{"name": "lab-vm-2", "state": "stopped"}])
    live.service("istio-system", "istio-eastwestgateway", "10.89.0.12")
    after_up(world, monkeypatch, machines=running("lab-vm-2"))
    assert run(monkeypatch, "up") == 1, "the fake Pulumi reads nothing again"
    first, second = world.calls("up")
    assert "--replace" not in first["words"]
    assert second["words"][second["words"].index("--replace") + 1] == read["urn"]


def test_up_removes_machines_that_it_turns_out_not_to_want(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.put("deployment.json", deployment(live, machine("lab-vm-2")))
    world.put("machines.list.json", [{"name": name, "state": "running"} for name in ("lab-vm-2", "lab-vm-9")])
    assert run(monkeypatch, "up") == 1, "the fake driver removes nothing, which is told"
    assert [document["name"] for document in world.requests("machines.delete")] == ["lab-vm-9"]


def test_an_up_that_fails_removes_nothing(world: World, live: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be wanted."""
    world.put("deployment.json", deployment(live, machine("lab-vm-2")))
    world.put("machines.list.json", [{"name": name, "state": "running"} for name in ("lab-vm-2", "lab-vm-9")])
    world.put("up.code", "1")
    assert run(monkeypatch, "up") == 1
    assert world.requests("machines.delete") == []


def test_up_looks_at_the_cluster_again_when_machines_had_to_start(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = "kubernetes:core/v1:Namespace"
    lost = {"urn": urn(kind, "lost"), "type": kind, "custom": True, "id": "lost", "outputs": {}}
    lost["inputs"] = {"metadata": {"name": "lost"}}
    world.put("deployment.json", deployment(live, machine("lab-vm-2"), lost))
    world.put("machines.list.json", [{"name": "lab-vm-2", "state": "stopped"}])
    world.put("samples.prove.json", [])
    assert run(monkeypatch, "up") == 1, "the fakes change nothing, which is told"
    assert "Namespace lost is gone" in capsys.readouterr().out
    assert len(world.calls("up")) == 2
    verbs = [call["words"][1] if call["words"][0] == "stack" else call["words"][0] for call in world.calls()]
    assert verbs.index("up") < verbs.index("import") < len(verbs) - verbs[::-1].index("up")


def test_a_failed_up_ends_with_what_failed_and_what_to_do(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.put("up.code", "1")
    world.put("up.events", events(said("error: no [such] image", "vm-1-join")))
    assert run(monkeypatch, "up") == 1
    assert capsys.readouterr().err.splitlines()[-2:] == [
        "error: vm-1-join: no [such] image",
        "  `make up STACK=lab` goes on from here, `make down STACK=lab` takes all of it down",
    ]


def test_down_leaves_nothing(
    world: World, live: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "up") == 0
    world.put("machines.list.json", [{"name": "lab-orphan", "state": "running"}])
    assert run(monkeypatch, "kubeconfig") == 0
    assert run(monkeypatch, "down") == 0
    assert not world.home.exists()
    assert world.calls("stack", "rm")[0]["words"][2:5] == ["lab", "--yes", "--preserve-config"]
    assert world.requests("machines.delete") == [{"driver": "nspawn", "owner": "istio-vms/lab", "name": "lab-orphan"}]
    assert "stack lab is gone" in capsys.readouterr().out


def test_down_of_what_is_not_up_does_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "down") == 0
    assert "stack lab is not up; there is nothing to take down" in capsys.readouterr().out
    assert not world.home.exists()


def test_down_that_was_killed_at_its_very_end_is_finished(
    world: World, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.pulumi("stack", "rm", "lab")
    traces(world, "lab")
    assert run(monkeypatch, "down") == 0
    assert not world.calls("destroy")
    assert not world.home.exists()


def test_a_failed_down_keeps_the_state(
    world: World, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.put("destroy.code", "1")
    assert run(monkeypatch, "down") == 1
    assert "`make down STACK=lab` goes on from here" in capsys.readouterr().err
    assert stack.exists() and stack.config_file.exists()
    assert not world.calls("stack", "rm")


def test_preview_repairs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put("deployment.json", {"resources": [machine("lab-a")], "pending_operations": []})
    assert run(monkeypatch, "preview") == 0
    assert len(world.calls("preview")) == 1
    assert not (world.folder / "actions.jsonl").exists()


# --------------------------------------------------------------------------------------------- looking and getting in


def test_status_is_read_only_and_its_exit_code_tells(
    world: World,
    live: Api,
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world.put("deployment.json", deployment(live, machine("lab-vm-1")))
    world.put("machines.list.json", [{"name": "lab-vm-1", "state": "running"}])
    opened = len(world.calls())
    assert run(monkeypatch, "status") == 0
    assert "stack lab: all is well" in capsys.readouterr().out
    live.entry(FIRST, healthy="False", message="connection refused")
    assert run(monkeypatch, "status") == 1
    out = printed(capsys)
    assert "stack lab: 1 finding, see below" in out
    assert out.endswith(
        "\n  VM lab-vm-1 is not healthy: connection refused\n    → start what answers its probe: `make ssh STACK=lab VM=vm-1`\n"
    )
    assert {line["name"] for line in world.lines("actions.jsonl")} == {"machines.list"}
    looking = world.calls()[opened:]
    assert {call["words"][1] for call in looking} == {"export"}


def test_status_as_json_is_json_alone_and_without_secrets(
    live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    monkeypatch.setenv("ARGS", "--json")
    run(monkeypatch, "status")
    out = capsys.readouterr().out
    assert json.loads(out)["stack"] == "lab"
    assert live.token not in out and "PRIVATE" not in out


def test_arguments_of_make_are_not_those_of_a_command_that_has_its_own(
    live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGS", "--jsn")
    assert run(monkeypatch, "status", "--stack", "lab") in (0, 1)


@pytest.mark.parametrize(
    ("given", "said"), [("--jsn", "No such option: --jsn"), ("'", "error: ARGS: No closing quotation")]
)
def test_arguments_that_cannot_be_are_told(
    live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str, said: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("ARGS", given)
    assert run(monkeypatch, "status") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["status", "rejoin", "kubeconfig", "ssh"])
@pytest.mark.parametrize("opened", [True, False])
def test_a_stack_that_is_not_up_is_told_in_a_line(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str, opened: bool
) -> None:
    if opened:
        Stack.open("lab")
        capsys.readouterr()
    assert run(monkeypatch, verb) == 1
    shown = capsys.readouterr()
    assert shown.err == "error: stack lab is not up; `make up STACK=lab` brings it up\n"
    assert shown.out == ""


def test_kubeconfig_prints_nothing_but_the_path_of_a_private_file(
    live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(monkeypatch, "kubeconfig") == 0
    path = Path(capsys.readouterr().out.removesuffix("\n"))
    assert path.read_text() == live.kubeconfig
    assert mode(path) == 0o600


@pytest.mark.parametrize("given", ["vm-1", "lab-vm-1"])
def test_ssh_pins_the_host_key_and_keeps_the_key_private(
    world: World, live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    world.program("ssh", SSH)
    monkeypatch.setenv("VM", given)
    monkeypatch.setenv("ARGS", "echo $HOME; id")
    assert run(monkeypatch, "ssh") == 7
    words = (world.folder / "ssh.words").read_text().splitlines()
    assert words[-2:] == ["ubuntu@10.89.0.14", "echo $HOME; id"]
    assert (world.folder / "ssh.key").read_text() == "600\nPRIVATE KEY\n"
    options = dict(word.split("=", 1) for word in words if "=" in word)
    assert options["StrictHostKeyChecking"] == "yes"
    known = Path(options["UserKnownHostsFile"])
    assert options["HostKeyAlias"] == "lab-vm-1"
    assert known.read_text().splitlines() == [
        f"{name} ssh-ed25519 KEY-OF-{name}" for name in ("lab-server-1", "lab-agent-1", "lab-vm-1", "lab-vm-2")
    ]
    assert not Path(words[words.index("-i") + 1]).exists(), "the key is lent to ssh only"
    assert words[words.index("-F") + 1] == "none"
    assert "PRIVATE" not in " ".join(words)


def test_sshs_options_are_ones_that_ssh_knows(
    world: World, live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.program("ssh", '#!/bin/sh\nexec /usr/bin/ssh -G "$@" >"$FAKE_WORLD/ssh.means"\n')
    monkeypatch.setenv("VM", "vm-2")
    assert run(monkeypatch, "ssh") == 0
    means = dict(line.split(" ", 1) for line in (world.folder / "ssh.means").read_text().splitlines() if " " in line)
    assert (means["hostname"], means["port"], means["user"]) == ("10.89.1.10", "22", "ubuntu")
    assert (means["stricthostkeychecking"], means["hostkeyalias"]) == ("true", "lab-vm-2")
    assert means["userknownhostsfile"] == str(stack.folder / "known_hosts")
    assert Path(means["identityfile"]).name == "id_ed25519"


def test_two_shells_at_once_each_find_the_host_key_of_their_machine(
    world: World, live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.program("ssh", MEANWHILE)
    monkeypatch.setenv("VM", "vm-1")
    monkeypatch.setenv("ANOTHER", f"{sys.executable} -c 'from tests.unit.ops.test_cli import meanwhile; meanwhile()'")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    assert run(monkeypatch, "ssh") == 0
    assert (world.folder / "known").read_text().splitlines() == ["lab-vm-1 ssh-ed25519 KEY-OF-lab-vm-1", "PRIVATE KEY"]
    assert sorted(path.name for path in stack.folder.iterdir()) == ["Pulumi.lab.yaml", "known_hosts"]


@pytest.mark.parametrize("given", ["vm-9", ""])
def test_ssh_to_a_machine_that_is_not_there_names_those_that_are(
    live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str
) -> None:
    monkeypatch.setenv("VM", given)
    assert run(monkeypatch, "ssh") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.endswith("stack lab has lab-server-1, lab-agent-1, lab-vm-1, lab-vm-2")
    assert f"VM={given or '(not given)'}" in error


# --------------------------------------------------------------------------------------------- a VM joins again


def joining(world: World, api: Api, state: str = "running") -> None:
    world.put("deployment.json", deployment(api, machine("lab-vm-1"), machine("lab-vm-2")))
    world.put("machines.list.json", [{"name": "lab-vm-2", "state": state}])
    world.put("workloads.join.json", {"namespace": "vmns", "workload_entry": SECOND})


@pytest.mark.parametrize("given", ["vm-2", "lab-vm-2"])
def test_a_vm_joins_again_with_what_it_was_told(
    world: World,
    live: Api,
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: str,
) -> None:
    joining(world, live)
    monkeypatch.setenv("VM", given)
    assert run(monkeypatch, "rejoin") == 0
    recorded = members.recorded(deployment(live))["lab-vm-2"]
    assert world.requests("workloads.join") == [{**recorded, "timeout_seconds": members.JOIN_SECONDS}]
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "lab-vm-2 joins the mesh again",
        "  lab-vm-2 [   0.1 s] workloads.join is at work",
        f"lab-vm-2 is a healthy member of the mesh: WorkloadEntry vmns/{SECOND}",
    ]
    assert world.requests("machines.update") == []
    assert {call["words"][0] for call in world.calls()} == {"stack", "config"}


def test_a_stopped_vm_is_started_to_join_again(
    world: World, live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    joining(world, live, "stopped")
    monkeypatch.setenv("VM", "vm-2")
    assert run(monkeypatch, "rejoin") == 0
    assert [document["name"] for document in world.requests("machines.update")] == ["lab-vm-2"]
    assert "machine lab-vm-2 is stopped; starting it\n" in capsys.readouterr().out


def test_a_vm_that_starts_elsewhere_waits_for_up_to_join_again(
    world: World, live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    joining(world, live, "stopped")
    resources = json.loads((world.folder / "deployment.json").read_text())["resources"]
    others = [one for one in resources if not one["urn"].endswith("lab-vm-2-machine")]
    world.put("deployment.json", {"resources": [*others, machine("lab-vm-2", "multipass", "10.89.1.10")]})
    world.put("machines.update.json", {"name": "lab-vm-2", "address": "10.89.1.77"})
    monkeypatch.setenv("VM", "vm-2")
    assert run(monkeypatch, "rejoin") == 1
    assert "has another address now; `make up STACK=lab` follows it" in capsys.readouterr().err
    assert world.requests("workloads.join") == []


@pytest.mark.parametrize(("vm", "names"), [("", ["lab-a", "lab-b"]), ("b", ["lab-b"])])
def test_snapshots_are_taken_of_each_machine_in_turn(
    world: World,
    live: Api,
    stack: Stack,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    vm: str,
    names: list[str],
) -> None:
    world.put("deployment.json", deployment(live, machine("lab-a", "multipass"), machine("lab-b", "multipass")))
    world.put(
        "machines.snapshot.json",
        {"machine": "m", "snapshot": "m.by-hand-1", "restore": "multipass restore m.by-hand-1"},
    )
    monkeypatch.setenv("VM", vm)
    assert run(monkeypatch, "snapshot") == 0
    assert [document["name"] for document in world.requests("machines.snapshot")] == names
    shown = capsys.readouterr().out
    assert "multipass restore m.by-hand-1" in shown
    assert shown.splitlines()[-1].startswith("`make up STACK=lab` next")


def test_snapshots_that_the_driver_does_not_have_are_an_error(
    world: World, live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.put("deployment.json", deployment(live, machine("lab-a")))
    world.put("machines.snapshot.error", "machines of driver nspawn have no snapshots; those of multipass do")
    assert run(monkeypatch, "snapshot") == 1
    assert capsys.readouterr().err == "error: machines of driver nspawn have no snapshots; those of multipass do\n"


def test_hosts_of_others_get_no_snapshots(
    world: World, live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.put("deployment.json", deployment(live, machine("lab-a", driver="existing")))
    assert run(monkeypatch, "snapshot") == 1
    assert "were not made here" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "VM=(not given): stack lab has lab-vm-1, lab-vm-2"),
        ("server-1", "VM=server-1: stack lab has lab-vm-1, lab-vm-2"),
        ("vm-1", "machine lab-vm-1 is gone; `make up STACK=lab` makes it anew"),
    ],
)
def test_a_vm_that_cannot_join_again_is_told(
    world: World, live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str, said: str,
) -> None:  # fmt: skip
    joining(world, live)
    monkeypatch.setenv("VM", given)
    assert run(monkeypatch, "rejoin") == 1
    assert capsys.readouterr().err.endswith(f"error: {said}\n")
    assert world.requests("workloads.join") == []


def test_a_vm_that_never_joined_waits_for_up(
    world: World, live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = deployment(live)
    state["resources"] = [r for r in state["resources"] if not r["urn"].endswith("vm-1-join")]
    world.put("deployment.json", state)
    monkeypatch.setenv("VM", "vm-1")
    assert run(monkeypatch, "rejoin") == 1
    assert "lab-vm-1 has not joined yet; `make up STACK=lab` lets it" in capsys.readouterr().err


def test_joining_again_in_vain_ends_with_the_reason(
    world: World, live: Api, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    joining(world, live)
    world.put("workloads.join.error", "error: 10.89.1.10 is not a healthy member of the mesh")
    monkeypatch.setenv("VM", "vm-2")
    assert run(monkeypatch, "rejoin") == 1
    assert capsys.readouterr().err.endswith("error: 10.89.1.10 is not a healthy member of the mesh\n")


# --------------------------------------------------------------------------------------------- env and run


def test_env_makes_a_shell_what_pulumi_runs_with(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "with space and 'quotes'"))
    assert run(monkeypatch, "env") == 0
    script = 'eval "$1"; exec "$2" -c "import json, os; print(json.dumps(dict(os.environ)))"'
    words = ["bash", "-c", script, "bash", capsys.readouterr().out, sys.executable]
    made = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
    differing = {key for key in {*made, *os.environ} if made.get(key) != workspace.environment().get(key)}
    assert differing <= {"_", "SHLVL", "PWD", "OLDPWD", "COLUMNS", "LINES"}  # bash sets these itself


def test_run_passes_the_environment_and_the_exit_code_on(
    world: World, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "run", "--", "sh", "-c", "echo $PULUMI_BACKEND_URL; exit 3") == 3
    assert capfd.readouterr().out == f"file://{world.home}/backend\n"


def test_a_command_that_is_not_there_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "run", "--", "no-such-command") == 1
    assert capsys.readouterr().err == "error: no-such-command: there is no such command\n"


# --------------------------------------------------------------------------------------------- errors


def test_an_unknown_stack_is_one_line(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STACK", "[red]")
    assert run(monkeypatch, "up") == 1
    error = capsys.readouterr().err
    assert error == "error: STACK=[red]: there is no Pulumi.[red].yaml; stacks are dev, lab, lab-two\n"


def test_pulumis_error_is_one_line(
    world: World, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.put("refuses", "")
    capsys.readouterr()
    assert run(monkeypatch, "status") == 1
    assert capsys.readouterr().err == "error: `pulumi stack export` failed: the back end cannot be reached\n"


def test_an_interruption_outside_of_the_engine_has_its_exit_code_too(
    world: World, stack: Stack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.life, "repair", interrupted)
    assert run(monkeypatch, "up") == 130
    assert capsys.readouterr().err.splitlines()[-1] == "error: interrupted; the same command goes on from here"


def test_what_the_summary_needs_is_what_the_program_exports(api: Api) -> None:
    text = (workspace.Path(cli.__file__).parents[1] / "__main__.py").read_text()
    assert all(f'pulumi.export("{name}"' in text for name in outputs(api))


def test_up_gets_what_its_machines_need_and_preview_pulumi_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.get_tools("lab", machines=True)
    workspace.get_tools("lab", machines=False)
    (world.project / "Pulumi.dev.yaml").write_text("config:\n  istio-vms:machines: {driver: multipass}\n")
    workspace.get_tools("dev", machines=True)
    assert world.tools() == [["install", "--quiet"], ["install", "--quiet", "pulumi"], ["install", "--quiet", "pulumi"]]


def test_up_ends_before_any_tool_where_machines_cannot_run(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise Failure("nspawn machines need root: run as root, or use STACK=dev (multipass)")

    monkeypatch.setattr(workspace, "check_host", refuse)
    assert run(monkeypatch, "up") == 1
    assert "or use STACK=dev" in capsys.readouterr().err
    assert world.tools() == []


def test_up_ends_before_any_tool_where_multipass_does_not_answer(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise Failure("the Multipass daemon does not run")

    (world.project / "Pulumi.lab.yaml").write_text("config:\n  istio-vms:machines: {driver: multipass}\n")
    monkeypatch.setattr(workspace, "check_multipass", refuse)
    assert run(monkeypatch, "up") == 1
    assert capsys.readouterr().err == "error: the Multipass daemon does not run\n"
    assert world.tools() == []
    assert run(monkeypatch, "preview") == 0, "which needs no Multipass"


def test_up_ends_where_a_tool_cannot_be_had(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.put("tools-fail", "")
    assert run(monkeypatch, "up") == 1
    assert "make doctor" in capsys.readouterr().err
    assert world.calls("up") == []
