"""The environment for real: one lab stack of its own for all tests of `test_environment.py`, and what they ask of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

from actions.kube import ApiCluster, Ran
from actions.machines.nspawn import layout, network, process, record
from tests.trial import Started, Trial, trial

CIDRS = {"cluster": "10.97.0.0/24", "vm": "10.97.1.0/24"}
VMS = ("vm-1", "vm-2", "vm-3", "vm-4")
NODES = ("agent-1", "agent-2", "server-1")
XFCC = "x-forwarded-client-cert"
UP_SECONDS = 300


class Environment:
    """A running stack as its user sees it: through make, Kubernetes and SSH."""

    def __init__(self, made: Trial) -> None:
        self.trial = made

    @cached_property
    def outputs(self) -> dict[str, Any]:
        return json.loads(self.trial.pulumi("stack", "output", "--json", "--show-secrets"))

    @cached_property
    def kubeconfig(self) -> Path:
        return Path(self.trial.make("kubeconfig").check().text.splitlines()[-1])

    @cached_property
    def cluster(self) -> ApiCluster:
        return ApiCluster(self.kubeconfig.read_text())

    def address(self, machine: str) -> str:
        return self.trial.machines()[machine]["address"]

    def get(self, path: str) -> dict[str, Any]:
        """An object of the Kubernetes API, which has to be there."""
        found = self.cluster.get(path)
        assert found is not None, path
        return dict(found)

    def names(self, path: str, selector: str = "") -> set[str]:
        return {item["metadata"]["name"] for item in self.cluster.items(path, selector)}

    def on(self, machine: str, command: str) -> str:
        """What a command on a machine prints; it has to succeed."""
        return self.trial.ssh(machine, command).check().text

    def ask(self, machine: str, **commands: str) -> dict[str, str]:
        """What each of several commands prints, over one connection; all have to succeed."""
        script = "\n".join(f"echo @@{name}; {command}" for name, command in commands.items())
        answers = self.on(machine, f"set -e\n{script}").split("@@")[1:]
        return {name: text.strip() for name, _, text in (answer.partition("\n") for answer in answers)}

    def connects(self, machine: str, address: str, port: int, user: str = "istio-proxy") -> bool:
        """Whether a TCP connection comes about from a machine; nobody captures what user istio-proxy sends."""
        program = f"import socket; socket.create_connection(('{address}', {port}), 2)"
        ran = self.trial.ssh(machine, f"sudo -u {user} python3 -c {shlex.quote(program)}")
        assert ran.code == 0 or re.search("timed out|No route to host|Network is unreachable", ran.text), ran.text
        return ran.code == 0

    def in_client_pod(self, *command: str) -> Ran:
        pod = sorted(self.names("/api/v1/namespaces/sample/pods", "app=curl"))[0]
        return self.cluster.run("sample", pod, "curl", command, timeout=15)

    def entry(self, vm: str) -> dict[str, Any]:
        """The VM's WorkloadEntry."""
        known = self.outputs["vms"][f"{self.trial.stack}-{vm}"]
        namespace, name = known["namespace"], known["workloadEntry"]
        return self.get(f"/apis/networking.istio.io/v1/namespaces/{namespace}/workloadentries/{name}")

    def verify(self, arguments: str = "") -> dict[str, Any]:
        """What `make verify` found, whether good or not."""
        said = self.trial.make("verify", ARGS=f"--json {arguments}")
        document, _ = json.JSONDecoder().raw_decode(said.text[said.text.index("{\n") :])
        assert (said.code == 0) == document["passed"]
        return document

    def holds(self, arguments: str = "") -> dict[str, Any]:
        """What `make verify` found; everything has to hold, and to have been asked for."""
        document = self.verify(arguments)
        findings = [finding for check in document["checks"] for finding in check["findings"]]
        assert [finding for finding in findings if finding["verdict"] != "holds"] == []
        return document

    def traffic_flows(self) -> None:
        """Pods call the VMs under their own identity, and each VM calls pods."""
        seen = self.in_client_pod("curl", "-sS", "-m", "5", "http://external-app.vmns.svc:8000/headers")
        assert seen.exit_code == 0, seen.stderr
        assert "URI=spiffe://cluster.local/ns/sample/sa/curl" in json.loads(seen.stdout)[XFCC]
        for vm in VMS:
            assert "Hello version: v" in self.on(vm, "curl -sS -m 5 http://helloworld.sample.svc:5000/hello")

    def boots(self) -> dict[str, str]:
        return {vm: self.on(vm, "cat /proc/sys/kernel/random/boot_id") for vm in VMS}

    def host_keys(self) -> dict[str, str]:
        return {name: machine["host_key"] for name, machine in self.trial.machines().items()}

    def certificate_names(self, address: str, port: int, asked: str) -> set[str]:
        """The names in the certificate that a server shows to a client that asks for `asked`; it is the mesh's own."""
        roots = self.get("/api/v1/namespaces/istio-system/configmaps/istio-ca-root-cert")["data"]["root-cert.pem"]
        context = ssl.create_default_context(cadata=roots)
        with socket.create_connection((address, port), 5) as raw, context.wrap_socket(raw, server_hostname=asked) as s:
            return {str(name) for kind, name in (s.getpeercert() or {})["subjectAltName"] if kind == "DNS"}

    def secrets(self) -> dict[str, str]:
        """Pieces of everything that nobody may read: the SSH key, the cluster's admin key, the join token."""
        admin = yaml.safe_load(self.outputs["kubeconfig"])["users"][0]["user"]
        return {
            "SSH key": self.outputs["sshPrivateKey"].splitlines()[1],
            "admin's key": admin["client-key-data"],
            "join token": self.on("server-1", "sudo cat /etc/rancher/k3s/token").strip(),
        }


class Host:
    """What this machine shows of stacks: their links, mounts, firewall rules, cgroups, folders, processes; and its sysctls."""

    _OURS = re.compile(r"ivm-|vb-|istio-vms/|ISTIO-VMS")

    def traces(self) -> set[str]:
        """A line for each thing of any stack."""
        links = [f"link {path.name}" for path in Path("/sys/class/net").iterdir()]
        mounts = [f"mount {line.split()[4]}" for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        rules = [f"rule {line}" for line in self._output("iptables", "-w", "-S")]
        groups = self._output("find", "/sys/fs/cgroup", "-maxdepth", "4", "-path", "*/istio-vms*", "-type", "d")
        folders = [
            f"folder {path}" for top in (layout.VAR, layout.RUN, layout.NAMES) for path in [top / "", *top.glob("*")]
        ]
        found = [*links, *mounts, *rules, *(f"cgroup {path}/" for path in groups), *self._existing(folders)]
        return {line for line in found if self._OURS.search(line)} | {
            f"process {words[0]} {word}"
            for _, words in processes()
            for word in words
            if word.startswith(("--machine=", "--hostsdir="))
        }

    def sysctls(self) -> dict[str, str]:
        names = (*network.SYSCTLS, *network.TOUCHED_SYSCTLS)
        return {name: Path("/proc/sys", name).read_text().strip() for name in names if Path("/proc/sys", name).exists()}

    def traces_of(self, owner: str, stack: str) -> set[str]:
        """Those of one stack."""
        bridges = [record.Lan(owner, name, cidr).bridge for name, cidr in CIDRS.items()]
        return {line for line in self.traces() if any(word in line for word in (f"{stack}-", *bridges))}

    @staticmethod
    def _existing(folders: Sequence[str]) -> list[str]:
        return [line for line in folders if Path(line.removeprefix("folder ")).exists()]

    @staticmethod
    def _output(*command: str) -> list[str]:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()


class Bystander:
    """A machine of another owner, which nothing done to the stack may touch."""

    owner = "istio-vms/bystander"
    name = "bystander"

    def __init__(self, image: str) -> None:
        self._call("delete", {})
        spec = {
            "cpus": 1, "memory_mib": 256, "disk_gib": 1, "image": image, "user": "ubuntu", "mounts": [],
            "user_data": "#cloud-config\n{}\n", "network": {"name": "bystander", "cidr": "10.97.2.0/24"},
        }  # fmt: skip
        self._call("ensure", spec)

    def process(self) -> process.Process | None:
        """The process that keeps it running."""
        return process.find(layout.Paths(self.name))

    def delete(self) -> None:
        self._call("delete", {})

    def _call(self, verb: str, document: dict[str, Any]) -> None:
        request = {"driver": "nspawn", "owner": self.owner, "name": self.name, "options": {}} | document
        command = [sys.executable, "-m", "actions", f"machines.{verb}"]
        subprocess.run(command, input=json.dumps(request), text=True, check=True, stdout=subprocess.DEVNULL)


def kill_pulumi_at(run: Started, state: Path, line: str) -> None:
    """Kill the engine of a run without warning once the run has printed a line like this; wait for the run's end."""
    deadline = time.monotonic() + UP_SECONDS
    while not re.search(line, run.log.read_text(errors="replace")):
        if run.process.poll() is not None:
            pytest.fail(f"it ended before it said {line}:\n{run.wait().text}")
        assert time.monotonic() < deadline, f"{run.log} never said {line}"
        time.sleep(0.05)
    engine = [
        pid
        for pid, words in processes()
        if Path(words[0]).name == "pulumi" and any(str(state) in word for word in words)
    ]
    assert len(engine) == 1, engine
    os.kill(engine[0], signal.SIGKILL)
    assert run.wait().code != 0


def processes() -> Generator[tuple[int, list[str]]]:
    """Every process of this machine: its id and its command line."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield int(path.parent.name), path.read_bytes().decode(errors="replace").split("\0")


@pytest.fixture(scope="module")
def sysctls_before() -> dict[str, str]:
    """The host's sysctls before any machine; of a host that has some already, what the driver noted then."""
    if record.load_all():
        return json.loads(network.SAVED_SYSCTLS.read_text())
    return Host().sysctls()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, sysctls_before: dict[str, str]) -> Generator[Trial]:
    """A stack that is not up yet, in a copy of the checkout."""
    assert sysctls_before
    with trial(tmp_path_factory.mktemp("environment"), "e2e", CIDRS) as made:
        yield made


@pytest.fixture(scope="module")
def bystander(stack: Trial) -> Generator[Bystander]:
    """Another owner's machine, there before the stack and after it."""
    made = Bystander(stack.settings["istio-vms:machines"]["image"])
    yield made
    made.delete()


@pytest.fixture(scope="module")
def env(stack: Trial, bystander: Bystander) -> Environment:
    """The stack, up: brought there by a run that ends well after two that were killed."""
    assert bystander.process()
    kill_pulumi_at(stack.start("up"), stack.state, r"server-1-k3s creating .*starting k3s")
    kill_pulumi_at(stack.start("up"), stack.state, r"Release istiod-\S+ creating .*helm install")
    # The engine may also be killed between the two writes of its state file, which leaves one of them empty.
    (stack.state / "istio-vms/backend/.pulumi/stacks/istio-vms/e2e.json.attrs").write_bytes(b"")
    stack.make("up").check()
    return Environment(stack)
