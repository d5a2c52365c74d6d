"""The machines: nodes of the cluster, and VMs with what they do while the cluster comes up."""

from __future__ import annotations

from typing import Any

import pulumi

from actions.artifacts import install_deb_script
from actions.machines import cloud_init
from actions.samples.application import sample_application
from components.environment.artifacts import machine_artifact
from components.machines.machine import Machine, SshKey
from components.settings import DriverName, HostSettings, Settings, Sizes, WorkloadSettings, node_names

SIDECAR_PACKAGE = "istio-sidecar"
Preparation = tuple[tuple[cloud_init.File, ...], tuple[str, ...]]
"""What cloud-init does on a machine: files, and commands after them."""


def ssh_key(settings: Settings) -> SshKey:
    """The key that opens every machine."""
    return SshKey("key", {"private_key_file": settings.machines.private_key_file})


class Machines:
    """Every machine of the stack, by the name the settings give it."""

    def __init__(self, settings: Settings, key: SshKey) -> None:
        """Make them all side by side."""
        self._settings = settings
        self._key = key
        self.servers: list[Machine] = []
        self.agents: list[Machine] = []
        self.vms: dict[str, Machine] = {}
        for name, role, pool, i in node_names(settings.cluster):
            host = pool.hosts[i] if pool.hosts else None
            machine = self._make(name, settings.cluster.network, pool, host)
            (self.servers if role == "server" else self.agents).append(machine)
        for workload in settings.workloads:
            preparation = self._preparation(workload)
            for vm in workload.vms:
                self.vms[vm.name] = self._make(vm.name, vm.network, vm, vm.existing, preparation)

    def exports(self) -> dict[str, Any]:
        """Address, SSH port, user and host key of each."""
        everyone = [*self.servers, *self.agents, *self.vms.values()]
        return {machine.machine_name: machine.reached for machine in everyone}

    def _preparation(self, workload: WorkloadSettings) -> Preparation:
        """The sidecar's package, and the sample application."""
        package = machine_artifact(self._settings.machines, self._settings.mesh.sidecar_package)
        commands = (install_deb_script(package, SIDECAR_PACKAGE),)
        if workload.application == "none":
            return (), commands
        ports = tuple(port.port for port in workload.ports)
        files, start = sample_application(workload.name, ports, workload.version or "v1")
        return files, start + commands

    def _options(self, host: HostSettings | None) -> dict[str, Any]:
        """The driver's own options, as its documentation names them."""
        shared = self._settings.machines
        if host:
            return {**host.model_dump(), "user": shared.user, "private_key": self._key.private_key}
        return shared.multipass.model_dump(mode="json") if shared.driver is DriverName.MULTIPASS else {}

    def _make(
        self, name: str, network: str, sizes: Sizes, host: HostSettings | None, preparation: Preparation = ((), ())
    ) -> Machine:
        settings, shared = self._settings, self._settings.machines
        full_name, (files, commands) = f"{settings.stack}-{name}", preparation
        user_data = self._key.public_key.apply(
            lambda public: cloud_init.render(
                cloud_init.CloudInit(full_name, shared.user, (public,), files=files, commands=commands)
            )
        )
        return Machine(
            full_name,
            {
                "driver": shared.driver,
                "owner": settings.owner,
                "sizes": sizes,
                "image": shared.image if sizes.image is None else sizes.image,
                "user": shared.user,
                "user_data": user_data,
                "key": self._key,
                "network": settings.network(network),
                "mounts": shared.mounts,
                "options": self._options(host),
            },
            pulumi.ResourceOptions(protect=True if settings.protection.machines else None),
        )
