"""A mesh in which every promise holds, and which can be broken at one place.

It stands behind what checks use of the real one: a cluster's API, commands in pods, scripts on VMs. Time passes only when somebody waits.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from actions.kube import ApiObject, Ran
from actions.protocol import Failure
from actions.samples.application import APPLICATION_UNIT, FAULT_FILE
from actions.workloads.certificate import Certificate
from actions.workloads.files import TOKEN
from actions.workloads.on_vm import UNIT
from components.settings import Settings, parse
from ops.finding import Finding as Found
from ops.status.model import Status
from tests.unit.test_settings import LAB
from verify.checks.telemetry import LOG
from verify.disturb import TIMER
from verify.environment import SIDECAR, Environment, Member

VMS = {"lab-vm-1": "10.89.0.15", "lab-vm-2": "10.89.1.11", "lab-vm-3": "10.89.1.12", "lab-vm-4": "10.89.0.12"}
NODES = {"lab-server-1": "10.89.0.11", "lab-agent-1": "10.89.0.13", "lab-agent-2": "10.89.0.14"}
EXTERNAL = ("lab-vm-1", "lab-vm-2", "lab-vm-3")
HELLO_VM = "lab-vm-4"
PODS = {"helloworld-v1-a": "10.42.0.4", "helloworld-v2-b": "10.42.1.4"}
CLIENTS = {"sample": ("curl", "stranger"), "sample-guarded": ("curl", "plain"), "sample-outside": ("plain",)}
SERVICES = {
    "istiod-1-30.istio-system.svc": "10.43.0.1",
    "helloworld.sample.svc": "10.43.0.2",
    "external-app.vmns.svc": "10.43.0.3",
}
GATEWAY_PORT = 15013
EJECTED_AFTER = 3
SWEEP_SECONDS = 10
CONNECT_SECONDS = 2
CERTIFICATE_SECONDS = 60
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
RECORD, FIELD = "\x1e", "\x1f"


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
UNREACHABLE = Reply(503, "upstream connect error")


def hello(instance: str) -> Reply:
    """What helloworld answers, on a VM or in a pod."""
    on_vm = instance in VMS
    version = "vm" if on_vm else instance.split("-")[1]
    return Reply(200, f"Hello version: {version}, instance: {instance}\n", instance if on_vm else "")


def account(vm: str) -> str:
    """The SPIFFE ID that a VM should have."""
    return "spiffe://cluster.local/ns/" + ("sample/sa/helloworld-vm" if vm == HELLO_VM else "vmns/sa/external-app")


@cache
def _settings(tables: str) -> Settings:
    return parse("lab", {key: json.dumps(value) for key, value in json.loads(tables).items()})


@dataclass
class World:
    """The mesh. The first fields can be broken, the second are what checks do to it; `broken` says how calls end, or who answers them."""

    broken: Callable[[Call], Reply | str | None] = lambda call: None
    names: dict[str, list[str]] = field(default_factory=dict)
    endpoints: dict[str, list[str]] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    peers: dict[str, str] = field(default_factory=dict)
    not_connected: set[str] = field(default_factory=set)
    unwell: set[str] = field(default_factory=set)
    swept: set[str] = field(default_factory=set)
    uncertified: set[str] = field(default_factory=set)
    flaws: dict[str, str] = field(default_factory=dict)
    identities: dict[str, str] = field(default_factory=dict)
    identity_on_return: str | None = None
    identity_on_renewal: str | None = None
    caller: str = "spiffe://cluster.local/ns/sample/sa/curl"
    authenticates: bool = True
    boot_on_rejoin: str = "boot-1"
    rejoin_code: int = 0
    rejoin_connects: bool = True
    bare: set[str] = field(default_factory=set)
    revisions: dict[str, str] = field(default_factory=dict)
    answering: dict[str, Any] = field(default_factory=dict)
    found: list[str] = field(default_factory=list)
    logging: Callable[[str], bool] = lambda instance: True
    probes: bool = True
    probe_seconds: float = 0
    spares: bool = True
    sweeps: bool = True
    retries: bool = True
    ejects: bool = True
    restarts: bool = True
    renews: bool = True
    lapses: bool = True
    pods_return: bool = True
    pods_ready: bool = True
    pod_seconds: float = 0
    breaks_off_at: int = 0

    steps: int = 0
    now: float = 0.0
    boot: str = "boot-1"
    stopped: dict[str, float] = field(default_factory=dict)
    sidecar_off: dict[str, float] = field(default_factory=dict)
    failing: set[str] = field(default_factory=set)
    errors: dict[str, int] = field(default_factory=dict)
    no_token: set[str] = field(default_factory=set)
    timers: dict[str, str] = field(default_factory=dict)
    pods: dict[str, str] = field(default_factory=lambda: dict(PODS))
    going: dict[str, float] = field(default_factory=dict)
    vms: list[str] = field(default_factory=lambda: list(VMS))
    connected_at: dict[str, float] = field(default_factory=dict)
    renewed_at: float = 0.0
    serial: int = 1
    log: list[tuple[str, str]] = field(default_factory=list)
    rejoined: list[str] = field(default_factory=list)

    def environment(self, change: Callable[[dict[str, Any]], Any] = lambda tables: None) -> Environment:
        """The stack that is up, with the lab's settings or changed ones."""
        tables = json.loads(json.dumps(LAB))
        change(tables)
        settings = _settings(json.dumps(tables))
        outputs = {
            "machines": {name: {"address": address} for name, address in (NODES | VMS).items()},
            "gateways": {"eastWest": {"addresses": list(NODES.values()), "ports": {"tls": 15443}}},
        }
        env = Environment("lab", outputs, FakeCluster(self), settings, self.status)
        self.vms = [f"lab-{vm.name}" for workload in settings.workloads for vm in workload.vms]
        for workload in settings.workloads:
            for vm in workload.vms:
                name = f"lab-{vm.name}"
                shell: Any = FakeVm(self, name)
                env.members.append(Member(name, VMS[name], workload, vm, f"entry-of-{name}", account(name), shell))
        return env

    def status(self) -> Status:
        """What `make status` finds."""
        self.step()
        findings = [Found(kind, "VM lab-vm-1", f"has a {kind}", "mend it") for kind in self.found]
        return Status("lab", [], [], [], [], [], [], findings)

    def step(self) -> None:
        """Something is asked or answered; at the step given, the connection is lost instead."""
        self.steps += 1
        if self.steps == self.breaks_off_at:
            raise Failure("the connection was lost")

    def left_alone(self) -> bool:
        """Whether nothing that a check may stop is stopped, and no VM has a timer left."""
        disturbed = self.stopped or self.sidecar_off or self.failing or self.no_token or self.not_connected
        return not disturbed and not self.timers

    def well(self, vm: str) -> bool:
        """What a VM's probe has found."""
        stopped = self.stopped.get(vm)
        found = stopped is not None and self.probes and self.now - stopped >= self.probe_seconds
        return not found and vm not in self.unwell

    def identity(self, vm: str) -> str:
        """Whose certificate the VM has."""
        return self.identities.get(vm, account(vm))

    def returned(self, vm: str) -> None:
        """A VM's sidecar connects, before long."""
        self.connected_at[vm] = self.now + CONNECT_SECONDS
        self.swept.discard(vm)
        if self.identity_on_return:
            self.identities[vm] = self.identity_on_return

    def rejoin(self, vm: str) -> int:
        """What `make rejoin` does, which waits for the connection; its exit code."""
        self.rejoined.append(vm)
        self.no_token.discard(vm)
        if self.rejoin_connects:
            self.not_connected.discard(vm)
        self.sidecar_off.pop(vm, None)
        self.renewed_at, self.serial, self.boot = self.now, self.serial + 1, self.boot_on_rejoin
        self.returned(vm)
        self.now = self.connected_at[vm]
        return self.rejoin_code

    def certificate(self, vm: str) -> Certificate | None:
        """The certificate a VM has: renewed at half of its life while the sidecar runs."""
        if vm in self.uncertified:
            return None
        on = vm not in self.sidecar_off and vm not in self.not_connected
        if on and self.renews and self.now - self.renewed_at > CERTIFICATE_SECONDS / 2:
            self.renewed_at, self.serial = self.now, self.serial + 1
            if self.identity_on_renewal:
                self.identities[vm] = self.identity_on_renewal
        begin = EPOCH + timedelta(seconds=self.renewed_at)
        return Certificate(self.serial, begin, begin + timedelta(seconds=CERTIFICATE_SECONDS), self.identity(vm))

    # ------------------------------------------------------------------ calls

    def reply(self, call: Call) -> Reply:
        """What happens to a call: broken first, then the mesh's own rules."""
        ends = self.broken(call)
        return self._served(call, ends) if isinstance(ends, str) else ends or self._ruled(call)

    def _ruled(self, call: Call) -> Reply:
        service = call.host.split(".")[0]
        if call.host[0].isdigit():
            return self._past_service(call)
        if call.source == "sample/stranger":
            return FORBIDDEN
        if call.source.startswith("sample-guarded/") and service == "external-app":
            return UNREACHABLE
        if call.source in EXTERNAL and service == "helloworld-shift":
            return Reply(503)
        chosen = self._choose(call, service)
        return self._served(call, chosen) if chosen else UNREACHABLE

    def _past_service(self, call: Call) -> Reply:
        """Plaintext to an address: reset by a sidecar, unless no packet gets there."""
        if call.source == "sample-guarded/plain" and call.host in VMS.values():
            return REJECTED
        if call.source.startswith("uncaptured/") and not call.source.endswith(HELLO_VM):
            return TIMED_OUT
        return RESET

    def _choose(self, call: Call, service: str) -> str | None:
        if service == "external-app":
            return self._one_of([vm for vm in EXTERNAL if vm in self.vms], call.number)
        if service == "helloworld-shift":
            to_vm = call.headers.get("x-version") == "vm" or call.number % 10 == 0
            return HELLO_VM if to_vm else "helloworld-v1-a"
        return self._one_of([*self.pods, *(vm for vm in (HELLO_VM,) if vm in self.vms)], call.number)

    def _one_of(self, instances: Sequence[str], number: int) -> str | None:
        """In turn, sparing those that are not well; a retry goes to the next one."""
        usable = [name for name in instances if self.well(name) or not self.spares]
        if not usable:
            return None
        chosen = usable[number % len(usable)]
        if chosen in self.failing:
            ejected = self.ejects and self.errors.get(chosen, 0) >= EJECTED_AFTER
            if not ejected:
                self.errors[chosen] = self.errors.get(chosen, 0) + 1
            if ejected or self.retries:
                usable.remove(chosen)
                return usable[number % len(usable)]
        return chosen

    def _served(self, call: Call, instance: str) -> Reply:
        if instance in self.stopped:
            return UNREACHABLE
        if instance in self.failing:
            return Reply(503, "made to fail\n", instance)
        if call.path.startswith("/headers"):
            if instance not in VMS:
                return Reply(404)
            told = {"host": call.host}
            if self.authenticates:
                told["x-forwarded-client-cert"] = f"By={self.identity(instance)};Hash=0;URI={self.caller}"
            return Reply(200, json.dumps(told) + "\n", instance)
        if "verify-" in call.path and self.logging(instance):
            self.log.append((instance, call.path.partition("?")[2]))
        return hello(instance)

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

    def logged(self, instance: str) -> str:
        """The access log of one sidecar."""
        return "".join(f'"GET /hello?{word}" 200\n' for name, word in self.log if name == instance)


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
        self.world.step()
        *_, namespace, kind, name = path.split("/")
        if kind == "services":
            return self._service(f"{name}.{namespace}.svc")
        if kind == "pods":
            gone = self.world.now - self.world.going.get(name, -1) >= self.world.pod_seconds
            return None if gone else {"metadata": {"name": name}}
        assert kind == "workloadentries", path
        return self._entry(name)

    def _service(self, name: str) -> ApiObject:
        if name == "istio-eastwestgateway.istio-system.svc":
            return {
                "spec": {"ports": [{"name": "tls", "port": 15443}, {"name": "tls-istiod", "port": GATEWAY_PORT}]},
                "status": {"loadBalancer": {"ingress": [{"ip": address} for address in NODES.values()]}},
            }
        return {"spec": {"clusterIP": SERVICES[name]}}

    def _entry(self, name: str) -> ApiObject | None:
        world, vm = self.world, name.removeprefix("entry-of-")
        off, at = world.sidecar_off.get(vm), world.connected_at.get(vm, 0)
        if off is not None and world.sweeps and world.now - off > SWEEP_SECONDS:
            world.swept.add(vm)
        if vm in world.swept:
            return None
        annotations = {"istio.io/connectedAt": f"{EPOCH + timedelta(seconds=at):%FT%TZ}"}
        if off is not None or vm in world.not_connected or world.now < at:
            annotations["istio.io/disconnectedAt"] = "2026-01-01T00:00:00Z"
        health = {"type": "Healthy", "status": str(world.well(vm)), "message": "connection refused"}
        return {
            "metadata": {"name": name, "annotations": annotations},
            "spec": {},
            "status": {"conditions": [health]},
        }

    def items(self, path: str, selector: str = "") -> list[ApiObject]:
        self.world.step()
        namespace, app = path.split("/")[4], selector.removeprefix("app=")
        clients = CLIENTS.get(namespace, ())
        found = {one: "10.42.9.9" for one in clients if app in ("", one)}
        if namespace == "sample" and app in ("", "helloworld"):
            found |= self.world.pods
        return [self._pod(namespace, name, ip) for name, ip in found.items()]

    def _pod(self, namespace: str, name: str, ip: str) -> ApiObject:
        plain = {"sidecar.istio.io/inject": "false"} if name == "plain" else {}
        bare = plain or name in self.world.bare
        revision = self.world.revisions.get(name, "1-30")
        status = {} if bare else {"sidecar.istio.io/status": json.dumps({"revision": revision})}
        containers = [{"name": one} for one in (name, *([] if bare else [SIDECAR]))]
        conditions = [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": str(self.world.pods_ready)},
        ]
        return {
            "metadata": {"name": name, "namespace": namespace, "labels": plain, "annotations": status},
            "spec": {"containers": containers},
            "status": {"phase": "Running", "conditions": conditions, "podIP": ip},
        }

    def create(self, path: str, body: ApiObject) -> ApiObject:
        raise AssertionError(f"a check created {path}")

    def delete(self, path: str) -> bool:
        """Another pod takes its place."""
        self.world.step()
        name = path.rpartition("/")[2]
        address = self.world.pods.pop(name)
        self.world.going[name] = self.world.now
        if self.world.pods_return:
            self.world.pods[f"{name}-again"] = address
        return True

    def run(self, namespace: str, pod: str, container: str, command: Sequence[str], timeout: float) -> Ran:
        self.world.step()
        if command[0] == "curl":
            assert container == pod, "a sidecar has no curl"
            return Ran(0, self.world.curl(f"{namespace}/{pod}", command), "")
        assert (container, list(command)) == (SIDECAR, ["pilot-agent", "request", "GET", "clusters"])
        lines = []
        for name in EXTERNAL:
            errors = self.world.errors.get(name, 0)
            ejected = self.world.ejects and errors >= EJECTED_AFTER
            for subset in ("", "vm"):
                at = f"outbound|8000|{subset}|external-app.vmns.svc.cluster.local::{VMS[name]}:8000::"
                seen = subset == "vm"
                lines += [f"{at}rq_error::{errors if seen else 0}"]
                lines += [f"{at}health_flags::{'/failed_outlier_check' if ejected and seen else 'healthy'}"]
        return Ran(0, "\n".join(lines), "")

    def logs(self, namespace: str, pod: str, container: str, since_seconds: int) -> str:
        self.world.step()
        assert (namespace, container) == ("sample", SIDECAR)
        return self.world.logged(pod)


@dataclass
class FakeVm:
    """A VM's shell."""

    world: World
    name: str

    def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        raise AssertionError(f"a check asked for {action}")

    def run(self, script: str, stdin: bytes | None = None, timeout: float = 0) -> str:
        self.world.step()
        printed = self._answer(script)
        self.world.step()
        return printed

    def _answer(self, script: str) -> str:
        if "wrap_socket" in script:
            asked = json.loads(shlex.split(script)[-1])
            return json.dumps({one: self.world.answering.get(one, [asked["name"]]) for one in asked["addresses"]})
        if "setpriv" in script:
            return self._call(script)
        if "127.0.0.1:15000/clusters" in script:
            return "".join(f"{line}::health_flags::healthy\n" for line in self._endpoints())
        if script.startswith("grep ' istiod"):
            return self._joined()
        if script.startswith("grep -F"):
            word, log = shlex.split(script)[2:4]
            assert log == LOG
            return "".join(line for line in self.world.logged(self.name).splitlines(True) if word in line)
        if "http://127.0.0.1:8000/hello" in script:
            return "503" if self.name in self.world.failing else "200"
        if script.startswith("python3 -c"):
            return json.dumps({name: self._resolve(name) for name in script.rpartition("' ")[2].split()})
        if script == "cat /proc/sys/kernel/random/boot_id":
            return f"{self.world.boot}\n"
        return self._act(script)

    def _call(self, script: str) -> str:
        streams = re.match(r"for _ in \$\(seq (\d+)\)", script)
        curl = script[script.index("curl ") : script.index(" || true")]
        source = f"uncaptured/{self.name}" if "reuid=istio-proxy" in script else self.name
        return self.world.curl(source, shlex.split(curl)) * (int(streams[1]) if streams else 1)

    def _joined(self) -> str:
        """Its addresses of istiod, its setting of istiod's address, its open connections."""
        at = self.world.hosts.get(self.name, " ".join(NODES.values()))
        port = self.world.ports.get(self.name, GATEWAY_PORT)
        peer = self.world.peers.get(self.name, f"{NODES['lab-agent-1']}:{GATEWAY_PORT}")
        own = VMS[self.name]
        sockets = [f"0 0 {own}:22 10.89.0.1:50000"] + ([f"0 0 {own}:40000 {peer}"] if peer else [])
        files = ([at] if at else []) + ([f"CA_ADDR='istiod.istio-system.svc:{port}'"] if port else [])
        return "\n".join([*files, *sockets, ""])

    def _endpoints(self) -> list[str]:
        """Envoy's own endpoints of helloworld, between those of another cluster."""
        on_vms = [VMS[vm] for vm in (HELLO_VM,) if vm in self.world.vms]
        direct = [f"{address}:5000" for address in (*self.world.pods.values(), *on_vms)]
        through = [f"{address}:15443" for address in NODES.values()]
        found = self.world.endpoints.get(self.name, direct if self.name == HELLO_VM else through)
        other = "outbound|8000||external-app.vmns.svc.cluster.local::192.0.2.1:8000"
        return [other, *(f"outbound|5000||helloworld.sample.svc.cluster.local::{one}" for one in found)]

    def _resolve(self, name: str) -> list[str]:
        known = {name: [address] for name, address in (NODES | VMS | SERVICES).items()}
        return self.world.names.get(name, known.get(name, []))

    def _act(self, script: str) -> str:
        """What stops and starts things, command by command; a timer that is set never goes off by itself."""
        timer = re.search(rf"systemd-run .*--unit={TIMER} --on-active=300 bash -c ('[^']*'|\S+) && ", script)
        if timer:
            self._commands(script[: timer.start()].removesuffix("; "))
            assert self.name not in self.world.timers, "systemd-run refuses a second timer of that name"
            self.world.timers[self.name] = shlex.split(timer[1])[0]
        self._commands(script[timer.end() if timer else 0 :])
        return ""

    def _commands(self, script: str) -> None:
        for command in re.split(r"; | && ", script):
            effects = [effect for text, effect in _EFFECTS.items() if command.startswith(text)]
            assert effects, f"a check ran {command!r} on {self.name}"
            effects[0](self.world, self.name)


def _start_sidecar(world: World, vm: str) -> None:
    if world.sidecar_off.pop(vm, None) is not None:
        expired = world.now > world.renewed_at + CERTIFICATE_SECONDS
        if not world.restarts or (world.lapses and vm in world.no_token and expired):
            world.not_connected.add(vm)
        else:
            world.returned(vm)


def _end_fault(world: World, vm: str) -> None:
    world.failing.discard(vm)
    world.errors.pop(vm, None)


_EFFECTS: dict[str, Callable[[World, str], Any]] = {
    f"systemctl stop {TIMER}.timer": lambda world, vm: world.timers.pop(vm, None),
    f"systemctl stop {APPLICATION_UNIT}": lambda world, vm: world.stopped.update({vm: world.now}),
    f"systemctl start {APPLICATION_UNIT}": lambda world, vm: world.stopped.pop(vm, None),
    f"systemctl stop {UNIT}": lambda world, vm: world.sidecar_off.update({vm: world.now}),
    f"systemctl start {UNIT}": _start_sidecar,
    "mkdir -p /run/istio-vms": lambda world, vm: None,
    f"touch {FAULT_FILE}": lambda world, vm: world.failing.add(vm),
    f"rm -f {FAULT_FILE}": _end_fault,
    f"mv {TOKEN} ": lambda world, vm: world.no_token.add(vm),
    f"[ -e {TOKEN} ] || mv {TOKEN}.aside {TOKEN}": lambda world, vm: world.no_token.discard(vm),
    f"rm -f {TOKEN}.aside": lambda world, vm: None,
    f"rm -f {TOKEN}": lambda world, vm: world.no_token.add(vm),
}
"""What a command does to the mesh, by how it begins."""
