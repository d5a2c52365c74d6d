"""Makes a virtual machine a member of the mesh, and takes it out again.

Three parties take part: the cluster gives a token and shows the member's WorkloadEntry, the machine runs `on_vm.py`, and this module
decides. Joining is done when istiod holds a connection of the member's sidecar and knows it to be healthy; a member that already
is what it should be is left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Annotated, Any, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from actions.kube import Cluster, KubeError, token, wait
from actions.protocol import Deadline, Document, Failure, Progress, Ssh
from actions.workloads import certificate, entry, routes
from actions.workloads.entry import NO_ENTRY, Entry, Start
from actions.workloads.files import MemberSpec, hosts, sidecar_files
from actions.workloads.routes import Route
from actions.workloads.vm import Vm, VmError, VmUnreachable

TOKEN_AUDIENCE = "istio-ca"  # noqa: S105 - not a secret
ENTRY_GRACE_SECONDS = 10
"""How long a sidecar that runs may be without a connection before it is restarted: istiod does not make an entry that someone
deleted again while the connection stands, and the agent's own attempts are seconds apart."""
GATEWAY_SECONDS = 30
"""How long a gateway none of whose addresses answers may take to: one that is being started takes a moment."""
ATTEMPT_SECONDS = 3
READY_SECONDS = 60
"""How long one look at cloud-init may take on the machine: a connection that died unnoticed costs no more."""
LOG_LINES = 8


class JoinRequest(Document):
    """What `join` reads, and `leave` too.

    Attributes:
        kubeconfig: a kubeconfig's text.
        ssh: how to reach the machine.
        member: what the machine is to be in the mesh.
        package_script: bash that ends with the sidecar's package installed; empty where it is anyway.
        root_certificate: the mesh's root certificate, PEM.
        node_addresses: of the nodes whose pods the machine reaches directly; none where it goes through the gateway.
        token_seconds: how long the token for the first connection is valid.
        timeout_seconds: for all of it, the machine's own setting up included.
        gateway_seconds: how long to wait for a gateway that does not answer at any address.
    """

    kubeconfig: str = Field(repr=False)
    ssh: Ssh
    member: MemberSpec
    package_script: str = ""
    root_certificate: Annotated[str, Field(pattern="-----BEGIN CERTIFICATE-----")]
    node_addresses: tuple[str, ...] = ()
    token_seconds: Annotated[int, Field(ge=600)] = 3600
    timeout_seconds: Annotated[float, Field(gt=0)] = 600
    gateway_seconds: Annotated[float, Field(gt=0)] = GATEWAY_SECONDS


class Joined(TypedDict):
    """What `join` prints.

    Attributes:
        workload_entry: the name of the WorkloadEntry that istiod registered.
        namespace: the entry's.
        address: the member's.
        host_name: the machine's own; states of earlier versions lack it.
        healthy: always true.
        connected_at: when the sidecar connected to istiod, as istiod wrote it.
    """

    workload_entry: str
    namespace: str
    address: str
    host_name: NotRequired[str]
    healthy: bool
    connected_at: str


class Left(TypedDict):
    """What `leave` prints: what there was to take away."""

    entry_removed: bool
    sidecar_stopped: bool


@dataclass
class Join:
    """One run of `join`. `sleep` is for tests."""

    request: JoinRequest
    cluster: Cluster
    vm: Vm
    progress: Progress
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        """All waits end together; our own way in stays open."""
        self.deadline = Deadline(self.request.timeout_seconds)
        self.start = Start()
        self.host_name = ""
        self.started = False
        own = () if self.request.ssh.port == 22 else (self.request.ssh.port,)
        self.member = self.request.member.model_copy(update={"uncaptured_ports": own})

    def run(self) -> Joined:
        """Make the machine a healthy member.

        Raises:
            Failure: the machine did not become one in time; the message has the sidecar's own last words.
        """
        self._wait_for_machine()
        self._find_routes()
        self._install(self._own_entry())
        found = self._wait_for_health(self._wait_for_connection())
        self.progress(f"{found.name} is connected and healthy")
        return {
            "workload_entry": found.name,
            "namespace": self.member.namespace,
            "address": self.member.address,
            "host_name": self.host_name,
            "healthy": True,
            "connected_at": found.connected_at,
        }

    def _wait_for_machine(self) -> None:
        """cloud-init may restart the SSH server, or the machine itself, while it works."""
        host = self.request.ssh.host
        self.progress(f"waiting for {host} to be set up")

        def look() -> str | None:
            try:
                waiting = self.vm.ask("ready", seconds=self.deadline.left(at_most=READY_SECONDS))["waiting"]
            except VmUnreachable as error:
                return str(error)
            return f"{host} is still being set up by cloud-init" if waiting else None

        reason = wait(look, self.deadline, self.sleep, pause=1)
        if reason:
            seen = "Look at `cloud-init status --long` and /var/log/cloud-init-output.log there, then run this again"
            raise Failure(f"{reason} after {self.request.timeout_seconds:.0f} s. {seen}")
        if self.request.package_script:
            self.progress("seeing to the sidecar's package")
            self.vm.run(self.request.package_script, timeout=max(1.0, self.deadline.left()))

    def _find_routes(self) -> None:
        """Routes to the pods of every node asked for; one that has just joined is given addresses for pods a moment later."""
        ways: dict[str, list[Route]] = {}

        def look() -> str | None:
            nodes = self.cluster.items(routes.NODES)
            ways.update({address: routes.to_pods(nodes, address) for address in self.request.node_addresses})
            missing = [address for address, found in ways.items() if not found]
            return f"no node at {', '.join(missing)} has addresses for pods" if missing else None

        if self.request.node_addresses and (reason := wait(look, self.deadline, self.sleep)):
            raise Failure(f"{reason} after {self.request.timeout_seconds:.0f} s. Look at `kubectl get nodes -o wide`")
        self.member = self.member.model_copy(update={"routes": tuple(chain.from_iterable(ways.values()))})

    def _own_entry(self) -> Entry:
        """The member's entry from before. One of another identity would keep istiod from registering the member: it goes."""
        found = entry.find(self.cluster, self.member)
        if found is None or found.service_account == self.member.service_account:
            return found or NO_ENTRY
        self.progress(f"removing WorkloadEntry {found.name} of service account {found.service_account}")
        self.cluster.delete(entry.path(self.member.namespace, found.name))
        return NO_ENTRY

    def _install(self, before: Entry) -> None:
        """Bring files and certificate up to date; where the sidecar was started for it, what its entry said `before` is outdated."""
        self.progress("getting a token and writing the member's files")
        member = self.member
        jwt = token(self.cluster, member.namespace, member.service_account, TOKEN_AUDIENCE, self.request.token_seconds)
        files = sidecar_files(member, self.request.root_certificate, jwt)
        documents = [{"path": path, **asdict(file)} for path, file in files.items()]
        if flaw := certificate.flaw(self.vm, member.spiffe_id):
            self.progress(f"the member's certificate {flaw}: it will get one for the token")
        answer = self.vm.ask(
            "install",
            files=documents,
            hosts=hosts(member),
            port=member.istiod_port,
            new_certificate=bool(flaw),
            set_owners=True,
        )
        changes = ", ".join(answer["changed"]) or "nothing"
        self.started = answer["restarted"]
        self.host_name = answer["host_name"]
        self.start = Start(before=before) if self.started else Start.found(answer["running_since"])
        self.progress(f"changed: {changes}; sidecar {'started' if self.started else 'left running'}")

    def _restart(self, reason: str) -> None:
        """Once is enough: what does not help then will not help again."""
        self.progress(f"{reason}: restarting the sidecar")
        self.start, self.started = Start(before=entry.find(self.cluster, self.member) or NO_ENTRY), True
        self.vm.ask("restart")

    def _wait_for_connection(self) -> Entry:
        self.progress("waiting for the sidecar's connection to istiod")
        found, reason = self._poll_connection(Deadline(self.deadline.left(at_most=ENTRY_GRACE_SECONDS)))
        if reason:
            self._see_that_the_gateway_answers()
        if reason and not self.started:
            self._restart(reason)
        if reason:
            found, reason = self._poll_connection(self.deadline)
        if found is None or reason:
            raise self._failure(reason or "")
        return found

    def _see_that_the_gateway_answers(self) -> None:
        """Without a way to istiod there is nothing to wait for, and no restart helps."""
        addresses, port = self.member.gateway_addresses, self.member.istiod_port
        silent: dict[str, str] = {}

        def look() -> str | None:
            nonlocal silent
            asked = self.vm.ask("reach", addresses=addresses, port=port, seconds=ATTEMPT_SECONDS, set_owners=True)
            silent = asked["silent"]
            return "no address answers" if len(silent) == len(set(addresses)) else None

        if wait(look, Deadline(self.deadline.left(at_most=self.request.gateway_seconds)), self.sleep, pause=1):
            tried = ", ".join(f"{address} port {port} ({silent[address]})" for address in addresses)
            raise Failure(
                f"{self.request.ssh.host} does not reach istiod: the east-west gateway answers at none of its addresses, {tried}. "
                "See that its pods and the nodes with these addresses run, and that no firewall is in between"
            )

    def _poll_connection(self, deadline: Deadline) -> tuple[Entry | None, str | None]:
        found: Entry | None = None

        def look() -> str | None:
            nonlocal found
            found = entry.find(self.cluster, self.member)
            return entry.not_connected(self.cluster, self.member, found, self.start)

        reason = wait(look, deadline, self.sleep)
        return found, reason

    def _wait_for_health(self, found: Entry) -> Entry:
        """A sidecar tells its health when it connects and when that changes: of an entry recreated meanwhile it says nothing."""
        reported = Deadline(self.deadline.left(at_most=ENTRY_GRACE_SECONDS + _report_seconds(self.member.probe or {})))
        found, reason = self._poll_health(found, self.deadline if self.started else reported)
        if reason and not self.started and entry.is_unreported(found, self.start):
            self._restart(reason)
            found = self._wait_for_connection()
        if reason:
            found, reason = self._poll_health(found, self.deadline)
        if reason:
            raise self._failure(reason)
        return found

    def _poll_health(self, found: Entry, deadline: Deadline) -> tuple[Entry, str | None]:
        def look() -> str | None:
            nonlocal found
            found = entry.find(self.cluster, self.member) or found
            return entry.not_healthy(self.member, found, self.start)

        reason = wait(look, deadline, self.sleep)
        return found, reason

    def _failure(self, reason: str) -> Failure:
        """The reason together with what the machine has to say."""
        member = (
            f"{self.request.ssh.host} is not a healthy member of the mesh after {self.request.timeout_seconds:.0f} s"
        )
        try:
            state = self.vm.ask("diagnose", lines=LOG_LINES)
        except VmError as error:
            return Failure(f"{member}: {reason}. {error}")
        log = "".join(f"\n  {line}" for line in state["log"]) or " empty"
        return Failure(f"{member}: {reason}. istio.service is {state['state']}; the end of its error log:{log}")


def _report_seconds(probe: Mapping[str, Any]) -> float:
    """How long a sidecar takes until its first report at most; the defaults are Kubernetes' own."""
    once = probe.get("periodSeconds", 10) + probe.get("timeoutSeconds", 1)
    times = max(probe.get("successThreshold", 1), probe.get("failureThreshold", 3))
    return probe.get("initialDelaySeconds", 0) + once * times


def leave(request: JoinRequest, cluster: Cluster, vm: Vm, progress: Progress) -> Left:
    """Take the machine out of the mesh: callers first, then the sidecar, then what istiod may have made meanwhile.

    Deleting the entry while the sidecar still serves lets callers go elsewhere before anything stops; istiod does not make it again while
    the connection stands. A machine or a cluster that cannot be reached is reported and does not stop the other half, as both are
    usually about to be deleted.
    """
    removed = _tolerate(lambda: _delete_entry(request.member, cluster), progress)
    if removed is not None:
        progress("WorkloadEntry removed" if removed else "no WorkloadEntry to remove")
    stopped = _tolerate(vm.leave, progress)
    if stopped is not None:
        progress(f"member's files removed; the sidecar {'was stopped' if stopped else 'was not running'}")
    again = _tolerate(lambda: _delete_entry(request.member, cluster), progress) if removed is not None else None
    return {"entry_removed": bool(removed or again), "sidecar_stopped": bool(stopped)}


def _tolerate(step: Callable[[], bool], progress: Progress) -> bool | None:
    """What the step says, or None when its party cannot be reached or refuses."""
    try:
        return step()
    except (KubeError, VmError) as error:
        progress(f"going on without it: {error}")
        return None


def _delete_entry(member: MemberSpec, cluster: Cluster) -> bool:
    found = entry.find(cluster, member)
    return found is not None and cluster.delete(entry.path(member.namespace, found.name))
