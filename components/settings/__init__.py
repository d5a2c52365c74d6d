"""The settings of a stack: the only reader of `pulumi.Config`, typed and validated as a whole.

`load()` either returns `Settings` or raises `SettingsError`, which names every error at once: its config path, the value
(unless the setting is a secret) and what would be right. Nothing is registered with Pulumi before that.

Keys in the stack file are camelCase; `make docs` lists the same tables in `Pulumi.yaml` and docs/settings.md.
"""

from components.settings.artifacts import machine_path, missing_files
from components.settings.problems import Problem, SettingsError
from components.settings.reading import TABLES, find_problems, key_problems, load, parse
from components.settings.stack import Settings, node_names
from components.settings.tables import (
    AnyCluster,
    Artifact,
    AuthorizationSettings,
    ChartSource,
    ChartValues,
    ClusterSettings,
    EastWestPorts,
    EgressGuardSettings,
    ExistingClusterSettings,
    HostSettings,
    IngressPorts,
    KubeconfigSettings,
    MachinesSettings,
    MeshSettings,
    MountSettings,
    MultipassSettings,
    NetworkSettings,
    NodePool,
    OutlierSettings,
    PolicySettings,
    ProbeSettings,
    ProtectionSettings,
    RetrySettings,
    RouteSettings,
    SampleSettings,
    ServicePort,
    Sizes,
    TelemetrySettings,
    TrafficSettings,
    VmSettings,
    WorkloadSettings,
)
from components.settings.values import DriverName, MtlsMode, mib

__all__ = [
    "TABLES",
    "AnyCluster",
    "Artifact",
    "AuthorizationSettings",
    "ChartSource",
    "ChartValues",
    "ClusterSettings",
    "DriverName",
    "EastWestPorts",
    "EgressGuardSettings",
    "ExistingClusterSettings",
    "HostSettings",
    "IngressPorts",
    "KubeconfigSettings",
    "MachinesSettings",
    "MeshSettings",
    "MountSettings",
    "MtlsMode",
    "MultipassSettings",
    "NetworkSettings",
    "NodePool",
    "OutlierSettings",
    "PolicySettings",
    "ProbeSettings",
    "Problem",
    "ProtectionSettings",
    "RetrySettings",
    "RouteSettings",
    "SampleSettings",
    "ServicePort",
    "Settings",
    "SettingsError",
    "Sizes",
    "TelemetrySettings",
    "TrafficSettings",
    "VmSettings",
    "WorkloadSettings",
    "find_problems",
    "key_problems",
    "load",
    "machine_path",
    "mib",
    "missing_files",
    "node_names",
    "parse",
]
