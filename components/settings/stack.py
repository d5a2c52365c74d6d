"""All settings of a stack together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from components.settings.problems import PROJECT
from components.settings.registry import Registry
from components.settings.tables import (
    AnyCluster,
    MachinesSettings,
    MeshSettings,
    NetworkSettings,
    NodePool,
    PolicySettings,
    ProtectionSettings,
    SampleSettings,
    TelemetrySettings,
    TrafficSettings,
    WorkloadSettings,
)


@dataclass(frozen=True)
class Settings:
    """All settings of a stack."""

    stack: str
    machines: MachinesSettings
    cluster: AnyCluster
    mesh: MeshSettings
    workloads: tuple[WorkloadSettings, ...]
    samples: SampleSettings
    policies: PolicySettings
    telemetry: TelemetrySettings
    traffic: tuple[TrafficSettings, ...]
    protection: ProtectionSettings

    @property
    def owner(self) -> str:
        """Whose machines these are, for the drivers."""
        return f"{PROJECT}/{self.stack}"

    def as_documents(self) -> dict[str, Any]:
        """What `parse` takes, by top-level key, defaults included: the settings as they are applied."""
        return {
            field.name: _document(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.name != "stack"
        }

    def network(self, name: str) -> NetworkSettings:
        """The machine network of that name; validation has seen to it that there is one."""
        return next(n for n in self.machines.networks if n.name == name)

    def namespaces(self) -> list[str]:
        """Every namespace whose pods get a sidecar, once each."""
        return self._registry.namespaces()

    @property
    def guarded_namespace(self) -> str | None:
        """The samples' namespace for clients behind an egress guard; None without samples."""
        return self._registry.guarded_namespace

    @property
    def outside_namespace(self) -> str | None:
        """The samples' namespace whose pods get no sidecar; None without samples."""
        return self._registry.outside_namespace

    @property
    def _registry(self) -> Registry:
        return Registry(self.mesh, self.workloads, self.samples)


def _document(table: BaseModel | tuple[BaseModel, ...]) -> Any:
    if isinstance(table, BaseModel):
        return table.model_dump(mode="json", by_alias=True)
    return [_document(row) for row in table]


def node_names(cluster: AnyCluster) -> Iterator[tuple[str, str, NodePool, int]]:
    """The machines of the cluster in order: (name, role, pool, index in the pool); none where someone else made it."""
    for name, pool in cluster.pools.items():
        role = name.removesuffix("s")
        for i in range(pool.size):
            yield f"{role}-{i + 1}", role, pool, i
