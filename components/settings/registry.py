"""What the stack itself puts into the mesh, for the settings that refer to it by name."""

from __future__ import annotations

from dataclasses import dataclass

from components.settings.tables import MeshSettings, SampleSettings, ServicePort, WorkloadSettings

HELLOWORLD = "helloworld"
"""The app of the helloworld sample, and its Service."""
HELLOWORLD_PORTS = (ServicePort(name="http", port=5000),)
CLIENT = "curl"
"""The service account of the samples' client that calls every VM when `up` proves traffic."""


@dataclass(frozen=True)
class Registry:
    """The namespaces of the stack, and in each the apps with their versions. An app has a Service of its name."""

    mesh: MeshSettings
    workloads: tuple[WorkloadSettings, ...]
    samples: SampleSettings

    @property
    def guarded_namespace(self) -> str | None:
        """The samples' namespace for clients behind an egress guard; None without samples."""
        return f"{self.samples.namespace}-guarded" if self.samples.enabled else None

    @property
    def outside_namespace(self) -> str | None:
        """The samples' namespace whose pods get no sidecar; None without samples."""
        return f"{self.samples.namespace}-outside" if self.samples.enabled else None

    def namespaces(self) -> list[str]:
        """Every namespace whose pods get a sidecar, once each."""
        names = {*(workload.namespace for workload in self.workloads), *self.mesh.namespaces}
        if self.guarded_namespace:
            names |= {self.samples.namespace, self.guarded_namespace}
        return sorted(names)

    def shared(self, namespace: str) -> bool:
        """Whether others deploy there too, so that it may have apps and Services that the settings do not name."""
        return namespace in self.mesh.namespaces

    def apps(self, namespace: str) -> dict[str, set[str]]:
        """The apps there that the stack makes, each with its versions."""
        found: dict[str, set[str]] = {}
        if self.samples.enabled and namespace == self.samples.namespace:
            found[HELLOWORLD] = {str(version) for version in self.samples.helloworld_images}
        for workload in self.workloads:
            if workload.namespace == namespace:
                versions = found.setdefault(workload.service, set())
                versions |= {workload.version} if workload.version else set()
        return found

    def ports(self, namespace: str, service: str) -> tuple[ServicePort, ...]:
        """The ports of a Service that the stack makes for an app there; none where it makes none."""
        if self.samples.enabled and (namespace, service) == (self.samples.namespace, HELLOWORLD):
            return HELLOWORLD_PORTS
        named = (w.ports for w in self.workloads if (w.namespace, w.service) == (namespace, service))
        return next(named, ())

    def proven(self) -> list[WorkloadSettings]:
        """The workloads whose VMs are called, and call helloworld, when `up` proves traffic."""
        return [w for w in self.workloads if self.samples.enabled and w.application == "sample" and w.vms]
