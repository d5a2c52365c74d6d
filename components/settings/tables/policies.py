"""Policies and telemetry: who may talk to whom, and what is logged of it."""

from typing import Annotated, Literal

from pydantic import Field

from components.settings.tables.base import Table, WhenUnset
from components.settings.values import DnsLabel, MtlsMode, NamespacedName


class AuthorizationSettings(Table):
    """Who may call an application, pods and VMs alike; everyone else gets 403."""

    name: DnsLabel = Field(description="name of the policy")
    namespace: DnsLabel = Field(description="namespace of the app")
    app: DnsLabel = Field(description="label `app` of the pods and VMs that are called")
    allow: Annotated[tuple[NamespacedName, ...], Field(min_length=1)] = Field(
        description="service accounts that may call, `namespace/name` each"
    )


class EgressGuardSettings(Table):
    """A namespace whose pods cannot reach VMs."""

    namespace: DnsLabel = Field(description="namespace of the pods")
    workloads: Annotated[tuple[NamespacedName, ...], WhenUnset("every VM")] = Field(
        default=(), description="workloads whose VMs are out of reach, `namespace/name` each"
    )


class PolicySettings(Table):
    """Who may talk to whom, and how."""

    mtls: MtlsMode = Field(
        default=MtlsMode.STRICT,
        description="what sidecars accept in the whole mesh: `STRICT` is mutual TLS only, `PERMISSIVE` plaintext too",
    )
    namespace_mtls: dict[DnsLabel, MtlsMode] = Field(
        default={}, description="the same for single namespaces: `{vmns: PERMISSIVE}`"
    )
    authorization: tuple[AuthorizationSettings, ...] = Field(
        default=(),
        description="who may call an app, pods and VMs alike; everyone else gets 403. An app without a policy may be "
        "called by all; several policies of one app add up",
    )
    egress_guards: tuple[EgressGuardSettings, ...] = Field(
        default=(),
        description="namespaces whose pods, with or without a sidecar, do not reach VMs. One guard per namespace",
    )


class TelemetrySettings(Table):
    """Access logs of the sidecars, by Istio's Telemetry API."""

    access_logs: Literal["off", "mesh", "namespaces"] = Field(
        default="off",
        description="`mesh`: every sidecar logs each request, those of VMs included; "
        "`namespaces`: those of some namespaces",
    )
    namespaces: tuple[DnsLabel, ...] = Field(default=(), description="which ones, with `accessLogs: namespaces` only")
