"""A mesh in which every promise holds, and which can be broken at one place.

It stands behind what checks use of the real one: a cluster's API, commands in pods, scripts on VMs. Time passes only when somebody waits.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from components.kube import ApiObject, Ran
from components.settings import parse
from components.workloads import certificate
from tests.unit.test_settings import LAB
from verify.environment import Environment, Member

VMS = {"vm-1": "10.89.0.15", "vm-2": "10.89.1.11", "vm-3": "10.89.1.12", "vm-4": "10.89.0.12"}
NODES = {"lab-server-1": "10.89.0.11", "lab-agent-1": "10.89.0.13", "lab-agent-2": "10.89.0.14"}
PODS = {"helloworld-v1-a": "10.42.0.4", "helloworld-v2-b": "10.42.1.4"}
CLUSTER_IPS = {"istiod-1-32-alpha": "10.43.0.1", "helloworld": "10.43.0.2", "external-app": "10.43.0.3"}
GATEWAY_PORT = 15013
RECORD, FIELD = "\x1e", "\x1f"
EJECTED_AFTER = 3


@dataclass
class Call:
    """One HTTP call as the mesh sees it: where from, where to, and its number in the series."""

    source: str
    host: str
    path: str
    headers: Mapping[str, str]
    number: int


@dataclass
class Reply:
    """How it ended."""

    status: int = 200
    body: str = ""
    instance: str = ""
    exit_code: int = 0
    connected: bool = True


RESET = Reply(0, exit_code=56)
REJECTED = Reply(0, exit_code=7, connected=False)
TIMED_OUT = Reply(0, exit_code=28, connected=False)
FORBIDDEN = Reply(403, "RBAC: access denied")


@dataclass
class World:
    """The mesh. `broken` overrules replies; the other fields are its state."""

    broken: Callable[[Call], Reply | None] = lambda call: None
    now: float = 0.0
    stopped: set[str] = field(default_factory=set)
    sidecar_off: dict[str, float] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    fault_errors: dict[str, int] = field(default_factory=dict)
    no_token: set[str] = field(default_factory=set)
    serial: int = 1
    renewed_at: float = 0.0
    rejoined: list[str] = field(default_factory=list)
    not_connected: set[str] = field(default_factory=set)
    words_logged: list[str] = field(default_factory=list)
    logs_lines: bool = True
    names: dict[str, list[str]] = field(default_factory=dict)
    endpoints: dict[str, list[str]] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    retries: bool = True
    ejects: bool = True
    probes: bool = True
    sweeps: bool = True
    renews: bool = True
    lapses: bool = True
    scripts: list[tuple[str, str]] = field(default_factory=list)

    def environment(self, change: Callable[[dict[str, Any]], Any] = lambda tables: None) -> Environment:
        """The stack that is up, with the lab's settings or changed ones."""
        tables = json.loads(json.dumps(LAB))
        change(tables)
        settings = parse("lab", {key: json.dumps(value) for key, value in tables.items()})
        outputs = {
            "machines": {name: {"address": address} for name, address in self.machines().items()},
            "gateways": {"eastWest": {"addresses": list(NODES.values()), "ports": {"tls": 15443}}},
        }
        env = Environment("lab", outputs, FakeCluster(self), settings)
        for workload in settings.workloads:
            for vm in workload.vms:
                spiffe = f"spiffe://cluster.local/ns/{workload.namespace}/sa/{workload.service_account}"
                shell: Any = FakeVm(self, f"lab-{vm.name}")
                name, address = f"lab-{vm.name}", VMS[vm.name]
                env.members.append(Member(name, address, workload, vm, f"entry-{vm.name}", spiffe, shell))
        return env

    @staticmethod
    def machines() -> dict[str, str]:
        return NODES | {f"lab-{name}": address for name, address in VMS.items()}

    # ------------------------------------------------------------------ calls

    def reply(self, call: Call) -> Reply:
        """What happens to a call: broken first, then the mesh's own rules."""
        return self.broken(call) or self._ruled(call)

    def _ruled(self, call: Call) -> Reply:
        service = call.host.split(".")[0]
        if call.host[0].isdigit():
            return self._past_service(call)
        if call.source == "sample/stranger":
            return FORBIDDEN
        if call.source.startswith("sample-guarded/") and service == "external-app":
            return Reply(503, "upstream connect error")
        if service == "helloworld-shift" and call.source in ("lab-vm-1", "lab-vm-2", "lab-vm-3"):
            return Reply(503)
        return self._served(call, service)

    def _past_service(self, call: Call) -> Reply:
        if call.source.startswith("sample-guarded/plain"):
            return REJECTED if call.host in VMS.values() else RESET
        if call.source.startswith("uncaptured/"):
            return RESET if call.source.endswith("vm-4") else TIMED_OUT
        return RESET

    def _served(self, call: Call, service: str) -> Reply:
        if service == "external-app":
            chosen = self._vm([name for name in VMS if name != "vm-4"], call.number)
        elif service == "helloworld-shift":
            to_vm = call.headers.get("x-version") == "vm" or call.number % 10 == 0
            chosen = "lab-vm-4" if to_vm else "helloworld-v1-a"
        else:
            known = [*PODS, *(f"lab-{n}" for n in ["vm-4"] if f"lab-{n}" not in self.stopped)]
            chosen = known[call.number % len(known)]
        return self._from(call, chosen)

    def _vm(self, names: Sequence[str], number: int) -> str:
        usable = [f"lab-{n}" for n in names if f"lab-{n}" not in self.stopped or not self.probes]
        chosen = usable[number % len(usable)]
        if chosen in self.failing:
            ejected = self.ejects and self.fault_errors.get(chosen, 0) >= EJECTED_AFTER
            if not ejected:
                self.fault_errors[chosen] = self.fault_errors.get(chosen, 0) + 1
            if ejected or self.retries:
                usable.remove(chosen)
                return usable[number % len(usable)]
        return chosen

    def _from(self, call: Call, instance: str) -> Reply:
        if instance in self.failing:
            return Reply(503, "fault\n", instance)
        if call.path.startswith("/headers"):
            account = "sample/sa/helloworld-vm" if instance == "lab-vm-4" else "vmns/sa/external-app"
            by, uri = (f"spiffe://cluster.local/ns/{who}" for who in (account, "sample/sa/curl"))
            told = {"x-forwarded-client-cert": f"By={by};Hash=0;URI={uri}"}
            return Reply(200, json.dumps(told) + "\n", instance)
        if "verify-" in call.path and self.logs_lines:
            self.words_logged.append(call.path.partition("?")[2])
        version = "vm" if "vm" in instance else instance.split("-")[1]
        header = instance if "vm" in instance else ""
        return Reply(200, f"Hello version: {version}, instance: {instance}\n", header)

    def curl(self, source: str, words: Sequence[str]) -> str:
        """What curl prints for these words, as `verify.calls.command` makes them."""
        headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
        url = next(word for word in words if word.startswith("http://"))
        series = re.search(r"[?&]call=\[1-(\d+)\]$", url)
        count = int(series[1]) if series else 1
        plain = url[: series.start()] if series else url
        host, _, path = plain.removeprefix("http://").partition("/")
        replies = [self.reply(Call(source, host.split(":")[0], f"/{path}", headers, n)) for n in range(count)]
        return "".join(_printed(reply) for reply in replies)


def _printed(reply: Reply) -> str:
    error = "" if reply.status else f"curl: ({reply.exit_code}) it failed"
    connect = "0.001" if reply.connected else "0.000000"
    state = [str(reply.status), str(reply.exit_code), connect, "0.01", reply.instance, error]
    return f"{reply.body}{RECORD}{FIELD.join(state)}{RECORD}"


@dataclass
class FakeCluster:
    """The cluster's API, as far as checks ask it."""

    world: World

    def get(self, path: str) -> ApiObject | None:
        name = path.rpartition("/")[2]
        if "/services/" in path:
            return self._service(name)
        if "/workloadentries/" in path:
            return self._entry(name)
        return None

    def _service(self, name: str) -> ApiObject:
        if name == "istio-eastwestgateway":
            return {
                "spec": {"ports": [{"name": "tls-istiod", "port": GATEWAY_PORT}]},
                "status": {"loadBalancer": {"ingress": [{"ip": address} for address in NODES.values()]}},
            }
        return {"spec": {"clusterIP": CLUSTER_IPS[name]}}

    def _entry(self, name: str) -> ApiObject | None:
        world, vm = self.world, f"lab-{name.removeprefix('entry-')}"
        off = world.sidecar_off.get(vm)
        if off is not None and world.sweeps and world.now - off > 10:
            return None
        connected = off is None and vm not in world.not_connected
        good = vm not in world.stopped or not world.probes
        since = {"istio.io/connectedAt": f"2026-01-01T00:00:{int(world.now):04}Z"} if connected else {}
        return {
            "metadata": {"name": name, "annotations": since},
            "spec": {},
            "status": {"conditions": [{"type": "Healthy", "status": str(good), "message": "connection refused"}]},
        }

    def items(self, path: str, selector: str = "") -> list[ApiObject]:
        app = selector.removeprefix("app=")
        names = list(PODS) if app == "helloworld" else [app]
        ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        return [{"metadata": {"name": n}, "status": {**ready, "podIP": PODS.get(n, "10.42.9.9")}} for n in names]

    def create(self, path: str, body: ApiObject) -> ApiObject:
        raise AssertionError(f"a check created {path}")

    def delete(self, path: str) -> bool:
        return True

    def run(self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float) -> Ran:
        if command[0] == "curl":
            return Ran(0, self.world.curl(f"{namespace}/{pod}", command), "")
        assert list(command) == ["pilot-agent", "request", "GET", "clusters"]
        cluster = "outbound|8000|vm|external-app.vmns.svc.cluster.local"
        lines = []
        for name, address in VMS.items():
            errors = self.world.fault_errors.get(f"lab-{name}", 0)
            flags = "/failed_outlier_check" if self.world.ejects and errors >= EJECTED_AFTER else "healthy"
            at = f"{cluster}::{address}:8000::"
            lines += [f"{at}rq_error::{errors}", f"{at}health_flags::{flags}"]
        return Ran(0, "\n".join(lines), "")

    def logs(self, namespace: str, pod: str, container: str, since_seconds: int) -> str:
        return "\n".join(f"GET {word}" for word in self.world.words_logged)


@dataclass
class FakeVm:
    """A VM's shell."""

    world: World
    name: str

    def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        raise AssertionError(f"a check asked for {action}")

    def run(self, script: str, stdin: bytes | None = None, timeout: float = 0) -> str:
        self.world.scripts.append((self.name, script))
        if "setpriv" in script:
            return self._call(script)
        if "127.0.0.1:15000" in script:
            return "".join(f"{line}::x\n" for line in self._endpoints())
        if script.startswith("grep ' istiod"):
            at = self.world.hosts.get(self.name, NODES["lab-server-1"])
            ca, peer = f"CA_ADDR='istiod.istio-system.svc:{GATEWAY_PORT}'", f"{at}:{GATEWAY_PORT}"
            return f"{at}\n{ca}\n0 0 10.89.0.15:40000 {peer}\n"
        if script.startswith("grep -F"):
            return "".join(f"GET {word}\n" for word in self.world.words_logged)
        if "http://127.0.0.1:8000/hello" in script:
            return "503" if self.name in self.world.failing else "200"
        if script.startswith("python3 -c"):
            return json.dumps({name: self._resolve(name) for name in shlex.split(script)[3:]})
        return self._act(script)

    def _call(self, script: str) -> str:
        streams = re.match(r"for _ in \$\(seq (\d+)\)", script)
        curl = script[script.index("curl ") : script.index(" || true")]
        source = f"uncaptured/{self.name}" if "reuid=istio-proxy" in script else self.name
        return self.world.curl(source, shlex.split(curl)) * (int(streams[1]) if streams else 1)

    def _endpoints(self) -> list[str]:
        direct = [f"{address}:5000" for address in PODS.values()]
        through = [f"{address}:15443" for address in NODES.values()]
        found = self.world.endpoints.get(self.name, direct if self.name == "lab-vm-4" else through)
        return [f"outbound|5000||helloworld.sample.svc.cluster.local::{one}" for one in found]

    def _resolve(self, name: str) -> list[str]:
        own = (
            {f"{service}.{name.split('.')[-2]}.svc": [ip] for service, ip in CLUSTER_IPS.items()} if "." in name else {}
        )
        known = {host: [address] for host, address in World.machines().items()} | own
        return self.world.names.get(name, known.get(name, []))

    def _act(self, script: str) -> str:
        """What stops and starts things; a timer that is set comes never."""
        if "cat /proc" in script:
            return "boot-id\n"
        for word in re.sub(r"systemd-run .* bash -c ('[^']*'|\S+)", "", script).split("; "):
            for pattern, effect in _EFFECTS.items():
                if re.search(pattern, word):
                    effect(self.world, self.name)
        return ""


def _start_sidecar(world: World, name: str) -> None:
    world.sidecar_off.pop(name, None)
    if world.lapses and name in world.no_token and world.now > world.renewed_at + 60:
        world.not_connected.add(name)


def _end_fault(world: World, name: str) -> None:
    world.failing.discard(name)
    world.fault_errors.pop(name, None)


_EFFECTS: dict[str, Callable[[World, str], Any]] = {
    "^systemctl stop istio-vms-application": lambda world, name: world.stopped.add(name),
    "^systemctl start istio-vms-application": lambda world, name: world.stopped.discard(name),
    r"^systemctl stop istio\.service": lambda world, name: world.sidecar_off.update({name: world.now}),
    r"^systemctl start istio\.service": _start_sidecar,
    "touch /run/istio-vms/fault$": lambda world, name: world.failing.add(name),
    "^rm -f /run/istio-vms/fault$": _end_fault,
    r"^mv /var/run/\S+ |^rm -f /var/run/\S+istio-token$": lambda world, name: world.no_token.add(name),
    r"^\[ -e": lambda world, name: world.no_token.discard(name),
}
"""What a command of a script does to the mesh."""


def read_certificate(world: World, epoch: datetime) -> Callable[[Any], certificate.Certificate]:
    """Stands for `certificate.read`: a certificate of 60 s that is renewed at half of its life while the sidecar runs."""

    def read(vm: FakeVm) -> certificate.Certificate:
        on = vm.name not in world.sidecar_off and vm.name not in world.not_connected
        if on and world.renews and world.now - world.renewed_at > 30:
            world.renewed_at, world.serial = world.now, world.serial + 1
        who = "sample/sa/helloworld-vm" if vm.name == "lab-vm-4" else "vmns/sa/external-app"
        begin = epoch + timedelta(seconds=world.renewed_at)
        return certificate.Certificate(
            world.serial, begin, begin + timedelta(seconds=60), f"spiffe://cluster.local/ns/{who}"
        )

    return read
