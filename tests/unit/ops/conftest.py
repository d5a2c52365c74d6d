from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops import engine, state, workspace

HERE = Path(__file__).parent

# A command line of ours: what it answers is in `<module>.<verb>.json` of the world, or it fails with what is in `….error`.
MODULE = """\
import json, os, pathlib, sys
world = pathlib.Path(os.environ["FAKE_WORLD"])
module, verb, document = "{module}", sys.argv[1], json.load(sys.stdin)
with (world / "modules.jsonl").open("a") as calls:
    calls.write(json.dumps({{"module": module, "verb": verb, "document": document, "argv": sys.argv}}) + "\\n")
print(f"[   0.1 s] {{verb}} is at work", file=sys.stderr)
error, answer = (world / f"{{module}}.{{verb}}.{{kind}}" for kind in ("error", "json"))
if error.exists():
    sys.exit(error.read_text())
print(answer.read_text() if answer.exists() else "{{}}")
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
        return [call for call in self._lines("calls.jsonl") if call["words"][: len(first)] == list(first)]

    def modules(self, module: str, verb: str) -> list[dict[str, Any]]:
        """The documents that one of our own command lines was given."""
        lines = self._lines("modules.jsonl")
        return [line["document"] for line in lines if (line["module"], line["verb"]) == (module, verb)]

    def tools(self) -> list[list[str]]:
        """How the tools were asked for."""
        return [line["words"] for line in self._lines("tools.jsonl")]

    def program(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(script)
        path.chmod(0o755)

    def _lines(self, name: str) -> list[dict[str, Any]]:
        file = self.folder / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


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
    for module in ("machines", "workloads", "samples"):
        file = made.project / "components" / f"{module}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(MODULE.format(module=module))
    tools = made.project / "lab" / "tools.py"
    tools.parent.mkdir()
    tools.write_text(TOOLS)
    # By this interpreter, without looking for site packages: it is started hundreds of times.
    made.program("pulumi", f"#!{sys.executable} -S\n{(HERE / 'fake_pulumi.py').read_text()}")
    for name in ("STACK", "VM", "ARGS", "PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(made.home.parent))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FAKE_WORLD", str(made.folder))
    monkeypatch.setattr(workspace, "ROOT", made.project)
    monkeypatch.setattr(workspace, "check_host", lambda: None)
    monkeypatch.setattr(engine, "ROOT", made.project)
    return made


@pytest.fixture
def stack(world: World) -> workspace.Stack:
    return workspace.Stack.open("lab")


def secret(value: Any) -> dict[str, str]:
    """A secret as `pulumi stack export --show-secrets` shows it."""
    return {state.SECRET: "1b47061264138c4ac30d75fd1eb44270", "plaintext": json.dumps(value)}


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:lab::istio-vms::{kind}::{name}"


def command(name: str, module: str, verb: str, document: Any, *, hidden: bool = False) -> dict[str, Any]:
    """A resource that runs one of our command lines."""
    stdin = json.dumps(document)
    inputs = {"create": f"python3 -m {module} {verb}", "stdin": secret(stdin) if hidden else stdin}
    kind = "command:local:Command"
    return {"urn": urn(kind, name), "custom": True, "type": kind, "inputs": inputs}


def machine(name: str, driver: str = "nspawn") -> dict[str, Any]:
    document = {"driver": driver, "name": name, "owner": "istio-vms/lab", "user_data": "#cloud-config"}
    return command(f"{name}-machine", "components.machines", "ensure", document)


def provider(kubeconfig: str) -> dict[str, Any]:
    kind = "pulumi:providers:kubernetes"
    return {"urn": urn(kind, "p"), "custom": True, "type": kind, "inputs": {"kubeconfig": secret(kubeconfig)}}


@dataclass
class Api:
    """A Kubernetes API with the objects the test puts at paths; `token` is what its kubeconfig has."""

    url: str
    objects: dict[str, Any] = field(default_factory=dict[str, Any])
    token: str = "hunter2"

    @property
    def kubeconfig(self) -> str:
        named = {"clusters": ("cluster", {"server": self.url}), "users": ("user", {"token": self.token})}
        lists = {key: [{"name": "x", kind: value}] for key, (kind, value) in named.items()}
        contexts = [{"name": "x", "context": {"cluster": "x", "user": "x"}}]
        return yaml.safe_dump(
            {"apiVersion": "v1", "kind": "Config", "current-context": "x", "contexts": contexts, **lists}
        )

    def node(self, name: str, ready: str = "True") -> None:
        nodes = self.objects.setdefault("/api/v1/nodes", {"items": []})
        nodes["items"].append(
            {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}
        )

    def entry(self, name: str, healthy: str = "True", *, connected: bool = True) -> None:
        path = f"/apis/networking.istio.io/v1/namespaces/vmns/workloadentries/{name}"
        since = "2026-11-21T03:00:00.000000000Z"
        gone = {} if connected else {"istio.io/disconnectedAt": since}
        self.objects[path] = {
            "metadata": {"name": name, "annotations": {"istio.io/connectedAt": since, **gone}},
            "spec": {"serviceAccount": "external-app"},
            "status": {"conditions": [{"type": "Healthy", "status": healthy}]},
        }


@pytest.fixture
def api() -> Iterator[Api]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = made.objects.get(self.path)
            body = json.dumps(found or {"message": "not found"}).encode()
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Api(f"http://127.0.0.1:{server.server_port}", {"/version": {"major": "1"}})
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
    }


def deployment(api: Api, *resources: dict[str, Any]) -> dict[str, Any]:
    """A state after an `up` that succeeded: what it exports, and what its members were told."""
    shown = outputs(api)
    shown = {**shown, "kubeconfig": secret(shown["kubeconfig"]), "sshPrivateKey": secret(shown["sshPrivateKey"])}
    kind = "pulumi:pulumi:Stack"
    root = {"urn": urn(kind, "istio-vms-lab"), "custom": False, "type": kind, "outputs": shown}
    joins = [
        command(
            f"{name.removeprefix('lab-')}-join", "components.workloads", "join",
            {"member": {"namespace": "vmns", "address": vm["address"]}, "ssh": {"host": vm["address"], "private_key": "PRIVATE"}},
            hidden=True,
        )
        for name, vm in shown["vms"].items()
    ]  # fmt: skip
    proof = command("proof-calls", "components.samples", "prove", {"kubeconfig": "K"}, hidden=True)
    return {"resources": [root, provider(api.kubeconfig), *joins, proof, *resources]}
