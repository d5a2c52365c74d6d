"""The stack that is up, as checks see it: its settings as applied, its cluster, its VMs, and the places to call from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType
from typing import Any, Self

from actions.kube import ApiCluster, ApiObject, Cluster
from actions.protocol import Failure, Ssh
from actions.workloads import entry
from actions.workloads.vm import Vm
from components import settings as stack_settings
from components.settings import Settings, SettingsError, VmSettings, WorkloadSettings
from ops.status.model import Status
from verify.calls import PodCaller, VmCaller

SIDECAR = "istio-proxy"
HELLO_PORT = 5000


@dataclass(frozen=True)
class Member:
    """A VM as a member of its workload.

    Attributes:
        name: its host name, which its application answers with.
        address: where it is reached.
        workload: its settings.
        settings: its own.
        entry: the name of its WorkloadEntry.
        spiffe_id: its identity.
        vm: its shell, as root.
    """

    name: str
    address: str
    workload: WorkloadSettings
    settings: VmSettings
    entry: str
    spiffe_id: str
    vm: Vm

    @property
    def port(self) -> int:
        """The port its application answers on."""
        return self.workload.probe.port

    @property
    def url(self) -> str:
        """Its Service, which may have other members and pods."""
        return f"http://{self.workload.service}.{self.workload.namespace}.svc:{self.port}"

    @property
    def caller(self) -> VmCaller:
        """Its shell to call from, as any user of it."""
        return VmCaller(f"VM {self.name}", self.vm)

    @property
    def uncaptured(self) -> VmCaller:
        """Its shell to call from past its sidecar."""
        return VmCaller(f"VM {self.name}, past its sidecar", self.vm, SIDECAR)


@dataclass
class Environment:
    """Everything a check may ask. `outputs` are the stack's, secrets in the clear; `look` is what `make status` does."""

    stack: str
    outputs: Mapping[str, Any]
    cluster: Cluster
    settings: Settings
    look: Callable[[], Status]
    members: list[Member] = field(default_factory=list[Member])
    _open: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def of(cls, stack: str, outputs: Mapping[str, Any], look: Callable[[], Status]) -> Environment:
        """Read a stack's outputs.

        Raises:
            Failure: they do not say with which settings the stack was brought up, or not in a way that is understood.
        """
        if "settings" not in outputs:
            raise Failure(f"stack {stack} does not say what it promises; `make up STACK={stack}` brings it up to date")
        raw = {key: json.dumps(value) for key, value in outputs["settings"].items()}
        try:
            settings = stack_settings.parse(stack, raw)
        except SettingsError as error:
            raise Failure(
                f"stack {stack} was brought up by another version; `make up STACK={stack}` first: {error}"
            ) from None
        environment = cls(stack, outputs, ApiCluster(outputs["kubeconfig"]), settings, look)
        environment.members = [
            environment._member(workload, vm)
            for workload in environment.settings.workloads
            if workload.application == "sample"
            for vm in workload.vms
        ]
        return environment

    def __enter__(self) -> Self:
        """Connects to nothing yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the connections to the VMs."""
        self._open.close()

    def _member(self, workload: WorkloadSettings, vm: VmSettings) -> Member:
        name = f"{self.stack}-{vm.name}"
        machine = self.outputs["machines"][name]
        target = Ssh(
            host=machine["address"],
            port=machine["port"],
            user=machine["user"],
            private_key=self.outputs["sshPrivateKey"],
            host_key=machine["hostKey"],
        )
        shell = self._open.enter_context(Vm(target))
        entry_name = self.outputs["vms"][name]["workloadEntry"]
        account = f"ns/{workload.namespace}/sa/{workload.service_account}"
        spiffe_id = f"spiffe://{self.settings.mesh.trust_domain}/{account}"
        return Member(name, machine["address"], workload, vm, entry_name, spiffe_id, shell)

    @cached_property
    def samples(self) -> str:
        """The namespace of helloworld and of the clients.

        Raises:
            Failure: the stack has no samples, so there is nobody to call from.
        """
        if not self.settings.samples.enabled:
            raise Failure("there is nobody to call from: set istio-vms:samples.enabled to true and `make up`")
        return self.settings.samples.namespace

    @property
    def hello(self) -> str:
        """The helloworld sample's URL."""
        return f"http://helloworld.{self.samples}.svc:{HELLO_PORT}/hello"

    def client(self, app: str = "curl", namespace: str | None = None) -> PodCaller:
        """A client of the samples: `curl`, `stranger`, or in another namespace `plain`, which has no sidecar."""
        where = namespace or self.samples
        return PodCaller(self.cluster, where, self.pod(where, f"app={app}")["metadata"]["name"], app)

    def pod(self, namespace: str, selector: str) -> ApiObject:
        """The first running pod with these labels.

        Raises:
            Failure: none runs.
        """
        pods = self.pods(namespace, selector)
        if not pods:
            raise Failure(f"no pod with {selector} runs in namespace {namespace}")
        return pods[0]

    def pods(self, namespace: str, selector: str) -> list[ApiObject]:
        """The running pods with these labels that are not about to go, by name."""
        found = self.cluster.items(f"/api/v1/namespaces/{namespace}/pods", selector)
        running = [
            pod
            for pod in found
            if pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]
        return sorted(running, key=lambda pod: pod["metadata"]["name"])

    def service(self, namespace: str, name: str) -> ApiObject:
        """A Service.

        Raises:
            Failure: there is none.
        """
        found = self.cluster.get(f"/api/v1/namespaces/{namespace}/services/{name}")
        if found is None:
            raise Failure(f"there is no Service {namespace}/{name}")
        return found

    def entry(self, member: Member) -> entry.Entry | None:
        """The member's WorkloadEntry as it is now."""
        found = self.cluster.get(entry.path(member.workload.namespace, member.entry))
        return entry.parse(found) if found else None

    def single_network(self, member: Member) -> bool:
        """Whether the member reaches pods directly."""
        return member.workload.network == self.settings.mesh.network

    def groups(self) -> list[list[Member]]:
        """The members by workload, in the order of the settings."""
        by_workload: dict[tuple[str, str], list[Member]] = {}
        for member in self.members:
            by_workload.setdefault((member.workload.namespace, member.workload.name), []).append(member)
        return list(by_workload.values())

    def largest_group(self) -> list[Member]:
        """The workload with the most VMs, where one can be spared.

        Raises:
            Failure: no workload has VMs with the sample application.
        """
        if not self.members:
            raise Failure("no workload has VMs with the sample application (workloads[].application: sample)")
        return max(self.groups(), key=len)
