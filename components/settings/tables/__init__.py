"""The tables of a stack file as they are read: which settings there are, their types, defaults and descriptions.

A field `pod_cidr` is `podCidr` in the stack file. What holds between two values is in `checks`. Descriptions are
Markdown, with links as docs/settings.md has them: `make docs` writes that file and Pulumi.yaml from here.

Annotations are evaluated where they stand: `from __future__ import annotations` would have pydantic compile each of them
once more at import.
"""

from components.settings.tables.base import Table, WhenUnset
from components.settings.tables.cluster import (
    AnyCluster,
    ClusterSettings,
    ExistingClusterSettings,
    KubeconfigSettings,
    NodePool,
    ProtectionSettings,
)
from components.settings.tables.machines import (
    Artifact,
    HostSettings,
    MachinesSettings,
    MountSettings,
    MultipassSettings,
    NetworkSettings,
    Sizes,
)
from components.settings.tables.mesh import ChartSource, ChartValues, EastWestPorts, IngressPorts, MeshSettings
from components.settings.tables.policies import (
    AuthorizationSettings,
    EgressGuardSettings,
    PolicySettings,
    TelemetrySettings,
)
from components.settings.tables.traffic import OutlierSettings, RetrySettings, RouteSettings, TrafficSettings
from components.settings.tables.workloads import (
    ProbeSettings,
    SampleSettings,
    ServicePort,
    VmSettings,
    WorkloadSettings,
)

__all__ = [
    "AnyCluster",
    "Artifact",
    "AuthorizationSettings",
    "ChartSource",
    "ChartValues",
    "ClusterSettings",
    "EastWestPorts",
    "EgressGuardSettings",
    "ExistingClusterSettings",
    "HostSettings",
    "IngressPorts",
    "KubeconfigSettings",
    "MachinesSettings",
    "MeshSettings",
    "MountSettings",
    "MultipassSettings",
    "NetworkSettings",
    "NodePool",
    "OutlierSettings",
    "PolicySettings",
    "ProbeSettings",
    "ProtectionSettings",
    "RetrySettings",
    "RouteSettings",
    "SampleSettings",
    "ServicePort",
    "Sizes",
    "Table",
    "TelemetrySettings",
    "TrafficSettings",
    "VmSettings",
    "WhenUnset",
    "WorkloadSettings",
]
