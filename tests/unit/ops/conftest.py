from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from actions.protocol import MARKER
from ops import engine, heal, readings, stack_file, state, workspace

HERE = Path(__file__).parent
ISTIO = "/apis/networking.istio.io/v1"
GATEWAYS = {
    "istio-eastwestgateway": {"status-port": 15022, "tls": 15443, "tls-istiod": 15013},
    "istio-ingressgateway": {"http2": 80},
}
ISTIOD_PODS = "/api/v1/namespaces/istio-system/pods?labelSelector=app=istiod"

# `python -m actions`: what an action prints is in `<name>.json` of the world, or it fails with what is in `<name>.error`.
ACTIONS = """\
import json, os, pathlib, sys
world = pathlib.Path(os.environ["FAKE_WORLD"])
name, document = sys.argv[1], json.load(sys.stdin)
with (world / "actions.jsonl").open("a") as calls:
    calls.write(json.dumps({"name": name, "document": document, "argv": sys.argv}) + "\\n")
print(f"[   0.1 s] {name} is at work", file=sys.stderr)
error, answer = (world / f"{name}.{kind}" for kind in ("error", "json"))
if error.exists():
    sys.exit(error.read_text())
print(answer.read_text() if answer.exists() else "{}")
"""


# `python -m lab.tools`: fails when the world has a file of that name.
TOOLS = """\
import json, os, pathlib, sys
world = pathlib.Path(os.environ["FAKE_WORLD"])
with (world / "tools.jsonl").open("a") as calls:
    calls.write(json.dumps({"words": sys.argv[1:]}) + "\\n")
sys.exit((world / "tools-fail").exists())
"""


@dataclass
class World:
    """A project with three stacks, a user's folders, and programs on PATH that write down how they were called."""

    folder: Path
    project: Path
    home: Path
    bin: Path

    def put(self, name: str, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        (self.folder / name).write_text(text)

    def calls(self, *first: str) -> list[dict[str, Any]]:
        """How pulumi was called, only with these first words."""
        return [call for call in self.lines("calls.jsonl") if call["words"][: len(first)] == list(first)]

    def requests(self, name: str) -> list[dict[str, Any]]:
        """The requests that an action was given."""
        return [line["document"] for line in self.lines("actions.jsonl") if line["name"] == name]

    def tools(self) -> list[list[str]]:
        """How the tools were asked for."""
        return [line["words"] for line in self.lines("tools.jsonl")]

    def program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(script)
        path.chmod(0o755)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """A file of the world, one JSON document a line."""
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for what the fakes say."""
    monkeypatch.setattr(heal, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(heal, "SETTLE_SECONDS", 0.3)
    monkeypatch.setattr(readings, "LOOK_SECONDS", 0.01)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(
        tmp_path / "world", tmp_path / "project", tmp_path / "state/istio-vms", tmp_path / "home/.cache/istio-vms/bin"
    )
    for folder in (made.folder, made.project, made.bin):
        folder.mkdir(parents=True)
    for stack in ("dev", "lab", "lab-two"):
        made.project.joinpath(f"Pulumi.{stack}.yaml").write_text(
            "config:\n  istio-vms:machines: {driver: nspawn} # of " + stack + "\n"
        )
    (made.project / "actions.py").write_text(ACTIONS)
    tools = made.project / "lab" / "tools.py"
    tools.parent.mkdir()
    tools.write_text(TOOLS)
    # By this interpreter, without looking for site packages: it is started hundreds of times.
    made.program("pulumi", f"#!{sys.executable} -S\n{(HERE / 'fake_pulumi.py').read_text()}")
    for name in ("pulumi-language-python", "pulumi-language-python-host"):
        made.program(name, "#!/bin/sh\n")
    for name in ("PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(made.home.parent))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FAKE_WORLD", str(made.folder))
    monkeypatch.setattr(workspace, "ROOT", made.project)
    monkeypatch.setattr(workspace, "check_host", lambda: None)
    monkeypatch.setattr(workspace, "check_multipass", lambda: None)
    monkeypatch.setattr(engine, "ROOT", made.project)
    # What is in the stacks' tables is of no interest here.
    monkeypatch.setattr(stack_file, "find_problems", lambda *_, **__: [])
    return made


@pytest.fixture
def stack(world: World) -> workspace.Stack:
    return workspace.Stack.open("lab")


def secret(value: Any) -> dict[str, str]:
    """A secret as `pulumi stack export --show-secrets` shows it."""
    return {state.SECRET: "1b47061264138c4ac30d75fd1eb44270", "plaintext": json.dumps(value)}


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:lab::istio-vms::{kind}::{name}"


def command(name: str, action: str, document: Any, *, hidden: bool = False, printed: Any = None) -> dict[str, Any]:
    """A resource that has an action done; without having ended yet when it has printed nothing."""
    stdin = json.dumps(document)
    inputs = {
        "create": f"actions/run {action}",
        "environment": {MARKER: action},
        "stdin": secret(stdin) if hidden else stdin,
    }
    kind = "command:local:Command"
    outputs = {} if printed is None else {"outputs": {"stdout": secret(json.dumps(printed))}}
    return {"urn": urn(kind, name), "custom": True, "type": kind, "inputs": inputs, **outputs}


def machine(name: str, driver: str = "nspawn", address: str = "") -> dict[str, Any]:
    """A machine that was begun; with an address one that was made."""
    document = {"driver": driver, "name": name, "owner": "istio-vms/lab", "user_data": "#cloud-config"}
    printed = {"name": name, "address": address, "port": 22, "user": "ubuntu", "host_key": "K", "state": "running"}
    return command(f"{name}-machine", "machines.ensure", document, printed=printed if address else None)


def gateway(name: str, addresses: list[str], **ports: int) -> dict[str, Any]:
    """A gateway's addresses as they were read."""
    document = {"namespace": "istio-system", "service": name, "ports": ports, "kubeconfig": "K"}
    printed = {"addresses": addresses, "ports": ports}
    return command(f"{name}-addresses", "mesh.gateway-addresses", document, hidden=True, printed=printed)


def provider(kubeconfig: str) -> dict[str, Any]:
    kind = "pulumi:providers:kubernetes"
    return {"urn": urn(kind, "p"), "custom": True, "type": kind, "inputs": {"kubeconfig": secret(kubeconfig)}}


@dataclass
class Api:
    """A Kubernetes API with the objects the test puts at paths; `token` is what its kubeconfig has, `deleted` the paths that were."""

    url: str
    objects: dict[str, Any] = field(default_factory=dict[str, Any])
    token: str = "hunter2"
    deleted: list[str] = field(default_factory=list[str])

    @property
    def kubeconfig(self) -> str:
        named = {"clusters": ("cluster", {"server": self.url}), "users": ("user", {"token": self.token})}
        lists = {key: [{"name": "x", kind: value}] for key, (kind, value) in named.items()}
        contexts = [{"name": "x", "context": {"cluster": "x", "user": "x"}}]
        return yaml.safe_dump(
            {"apiVersion": "v1", "kind": "Config", "current-context": "x", "contexts": contexts, **lists}
        )

    def node(self, name: str, ready: str = "True", *ranges: str) -> None:
        """A node; `ranges` are those of its pods' addresses."""
        nodes = self.objects.setdefault("/api/v1/nodes", {"items": []})
        nodes["items"].append(
            {
                "metadata": {"name": name},
                "spec": {"podCIDRs": list(ranges)},
                "status": {
                    "conditions": [{"type": "Ready", "status": ready}],
                    "nodeInfo": {"kubeletVersion": "v1.32.0+k3s1"},
                },
            }
        )

    def entry(
        self, name: str, healthy: str = "True", *, connected: bool = True, istiod: str = "istiod-1", message: str = ""
    ) -> None:
        """A WorkloadEntry, in its own place and in the list of all; the istiod that holds its connection runs unless it is another one."""
        since = "2026-11-21T03:00:00.000000000Z"
        annotations = {"istio.io/connectedAt": since, "istio.io/workloadController": istiod}
        gone = {} if connected else {"istio.io/disconnectedAt": since}
        made = {
            "metadata": {"name": name, "namespace": "vmns", "annotations": {**annotations, **gone}},
            "spec": {"serviceAccount": "external-app"},
            "status": {"conditions": [{"type": "Healthy", "status": healthy, "message": message}]},
        }
        self.objects[f"{ISTIO}/namespaces/vmns/workloadentries/{name}"] = made
        listed = self.objects.setdefault(f"{ISTIO}/workloadentries", {"items": []})
        listed["items"] = [*(one for one in listed["items"] if one["metadata"]["name"] != name), made]

    def pods(self) -> dict[str, Any]:
        """Those of all namespaces."""
        lists = (found for path, found in self.objects.items() if path.endswith("/pods"))
        return {"items": [pod for found in lists for pod in found["items"]]}

    def service(self, namespace: str, name: str, *addresses: str, **spec: Any) -> None:
        """A Service, in its own place and in the list of all."""
        balancer = {"ingress": [{"ip": address} for address in addresses]} if addresses else {}
        made = {
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
            "status": {"loadBalancer": balancer},
        }
        self.objects[f"/api/v1/namespaces/{namespace}/services/{name}"] = made
        listed = self.objects.setdefault("/api/v1/services", {"items": []})
        listed["items"] = [*(one for one in listed["items"] if one["metadata"]["name"] != name), made]

    def mesh(self) -> None:
        """What Istio has in a lab: a revision with a tag, both gateways, the VMs' group and Service."""
        revision = {"istio.io/rev": "1-32"}
        image = {"containers": [{"image": "docker.io/istio/pilot:1.32.0"}]}
        self.objects["/apis/apps/v1/deployments?labelSelector=app=istiod"] = {
            "items": [
                {
                    "metadata": {"name": "istiod-1-32", "namespace": "istio-system", "labels": revision},
                    "spec": {"replicas": 1, "template": {"spec": image}},
                    "status": {"readyReplicas": 1},
                }
            ]
        }
        hooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations?labelSelector=istio.io/tag"
        self.objects[hooks] = {
            "items": [
                {"metadata": {"name": "a", "labels": {**revision, "istio.io/tag": "default"}}},
                {"metadata": {"name": "b", "labels": {"istio.io/rev": "1-30", "istio.io/tag": "old"}}},
            ]
        }
        for gateway, ports in GATEWAYS.items():
            listed = [{"name": name, "port": port} for name, port in ports.items()]
            self.service("istio-system", gateway, "10.89.0.11", "10.89.0.12", ports=listed)
        labels = {"app": "external-app", "version": "vm"}
        self.service("vmns", "external-app", selector={"app": "external-app"})
        self.service("vmns", "other", selector={"app": "external-app", "version": "v2"})
        self.service("vmns", "headless")
        self.service("elsewhere", "namesake", selector={"app": "external-app"})
        group = {"metadata": {"name": "external-app", "namespace": "vmns"}, "spec": {"metadata": {"labels": labels}}}
        self.objects[f"{ISTIO}/workloadgroups"] = {"items": [group]}


@pytest.fixture
def api() -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path)
            self.answer(made.pods() if path == "/api/v1/pods" else made.objects.get(path))

        def do_DELETE(self) -> None:
            made.deleted.append(self.path)
            self.answer(made.objects.pop(self.path, None))

        def answer(self, found: Any) -> None:
            body = json.dumps(found or {"message": "not found"}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Be quiet."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 64
        """Everything is asked at once; with the default of five a connection may have to come again a second later."""

    server = Server(("127.0.0.1", 0), Handler)
    metadata = {"name": "istiod-1", "namespace": "istio-system", "labels": {"istio.io/rev": "1-32"}}
    istiod = {"metadata": metadata, "status": {"phase": "Running"}}
    objects = {"/version": {"major": "1"}, ISTIOD_PODS: {"items": [istiod]}, "/api/v1/pods": {"items": []}}
    made = Api(f"http://127.0.0.1:{server.server_port}", objects)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


NAMES = {"lab-vm-1": "external-app-10.89.0.14-vm-network", "lab-vm-2": "external-app-10.89.1.10-vm-network"}


def outputs(api: Api) -> dict[str, Any]:
    """What the lab stack exports."""
    addresses = {
        "lab-server-1": "10.89.0.11",
        "lab-agent-1": "10.89.0.12",
        "lab-vm-1": "10.89.0.14",
        "lab-vm-2": "10.89.1.10",
    }
    proof = {
        "vm": "lab-vm-1", "source": "vm lab-vm-1", "url": "http://helloworld.sample.svc:5000/hello", "status": 200, "proof": "mutual-tls",
        "client_identity": "spiffe://cluster.local/ns/vmns/sa/external-app", "server_identity": None, "body": None,
    }  # fmt: skip
    return {
        "kubeconfig": api.kubeconfig,
        "sshPrivateKey": "PRIVATE KEY\n",
        "machines": {
            name: {"address": address, "port": 22, "user": "ubuntu", "hostKey": f"ssh-ed25519 KEY-OF-{name}"}
            for name, address in addresses.items()
        },
        "gateways": {
            "ingress": {
                "addresses": ["10.89.0.11", "10.89.0.12"],
                "ports": {"status-port": 15021, "http2": 80, "https": 443},
            },
            "eastWest": {
                "addresses": ["10.89.0.11", "10.89.0.12"],
                "ports": {"status-port": 15022, "tls": 15443, "tls-istiod": 15013, "tls-webhook": 15018},
            },
        },
        "vms": {
            name: {
                "address": addresses[name],
                "namespace": "vmns",
                "workloadEntry": entry,
                "ssh": f"make ssh STACK=lab VM={name.removeprefix('lab-')}",
            }
            for name, entry in NAMES.items()
        },
        "proof": json.dumps([proof]),
        "settings": {
            "cluster": {"version": "v1.32.0+k3s1"},
            "mesh": {"revision": "1-32", "trustDomain": "cluster.local"},
        },
    }


def deployment(api: Api, *resources: dict[str, Any]) -> dict[str, Any]:
    """A state after an `up` that succeeded: what it exports, and what its members were told."""
    shown = outputs(api)
    shown = {**shown, "kubeconfig": secret(shown["kubeconfig"]), "sshPrivateKey": secret(shown["sshPrivateKey"])}
    kind = "pulumi:pulumi:Stack"
    root = {"urn": urn(kind, "istio-vms-lab"), "custom": False, "type": kind, "outputs": shown}
    joins = [
        command(
            f"{name.removeprefix('lab-')}-join",
            "workloads.join",
            {
                "member": {
                    "namespace": "vmns",
                    "workload": "external-app",
                    "address": vm["address"],
                    "service_account": "external-app",
                    "trust_domain": "cluster.local",
                },
                "ssh": {"host": vm["address"], "user": "ubuntu", "private_key": "PRIVATE", "host_key": "ssh-ed25519 K"},
            },
            hidden=True,
        )
        for name, vm in shown["vms"].items()
    ]
    proof = command("proof-calls", "samples.prove", {"kubeconfig": "K"}, hidden=True)
    return {"resources": [root, provider(api.kubeconfig), *joins, proof, *resources]}
