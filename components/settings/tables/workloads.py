"""Workloads: WorkloadGroups and their VMs, and the samples that prove traffic to them."""

from typing import Annotated, Literal

from pydantic import Field

from components.settings.tables.base import Table, WhenUnset
from components.settings.tables.machines import HostSettings, Sizes
from components.settings.values import DnsLabel, Memory, Port, matching


class ServicePort(Table):
    """A port of the workload's Service. Istio reads the protocol from the name."""

    name: Annotated[
        str,
        matching(
            r"(http2?|https|grpc|tcp|tls|mongo|mysql|redis)(-[a-z0-9-]*[a-z0-9])?", "should begin with a protocol"
        ),
    ] = Field(description="name that begins with the protocol: `http`, `http-web`, `tcp-db`, …")
    port: Port = Field(description="port number")


class ProbeSettings(Table):
    """The HTTP readiness probe of a WorkloadGroup."""

    path: Annotated[str, matching(r"/\S*", "should begin with /")] = Field(default="/", description="path to request")
    port: Port = Field(description="port of the application")
    period_seconds: Annotated[int, Field(ge=1, le=300)] = Field(default=2, description="time between probes")
    timeout_seconds: Annotated[int, Field(ge=1, le=300)] = Field(default=1, description="time to wait for an answer")
    success_threshold: Annotated[int, Field(ge=1, le=10)] = Field(
        default=1, description="successes in a row that make a VM healthy"
    )
    failure_threshold: Annotated[int, Field(ge=1, le=10)] = Field(
        default=2, description="failures in a row that make it unhealthy"
    )


class VmSettings(Sizes):
    """One virtual machine of a workload."""

    name: DnsLabel = Field(description="name of the VM; its machine is `<stack>-<name>`")
    network: DnsLabel = Field(default="default", description="machine network that the VM is attached to")
    cpus: Annotated[int, Field(ge=1, le=128)] = Field(default=1, description="CPUs, up to 128")
    memory: Memory = Field(default="1Gi", description="memory in whole `Mi` or `Gi`, from `512Mi` on")
    existing: HostSettings | None = Field(default=None, description="driver `existing` only: the existing host")


class WorkloadSettings(Table):
    """A WorkloadGroup with its Service and the VMs in it."""

    name: DnsLabel = Field(description="name of the WorkloadGroup")
    namespace: DnsLabel = Field(description="namespace of the WorkloadGroup")
    service_account: DnsLabel = Field(description="service account of the WorkloadGroup: the identity of its VMs")
    app: Annotated[DnsLabel | None, WhenUnset("the `name`")] = Field(
        default=None,
        description="label `app`, and the Service that the VMs belong to. With another app's name, such as "
        "`helloworld`, pods and VMs are behind one Service, whose ports they share",
    )
    version: DnsLabel | None = Field(
        default=None, description="label `version`, by which `traffic` tells pods and VMs of one Service apart"
    )
    network: DnsLabel = Field(
        default="vm-network",
        description="Istio network of the VMs. `mesh.network` means single-network: direct routes to pods, so every "
        "VM is on the nodes' machine network (`cluster.network`). Any other means multi-network: pods through the "
        "east-west gateway only",
    )
    ports: Annotated[tuple[ServicePort, ...], Field(min_length=1)] = Field(description="ports of the Service")
    probe: ProbeSettings = Field(description="HTTP readiness probe, sent by the VM's sidecar")
    token_seconds: Annotated[int, Field(ge=600, le=86400)] = Field(
        default=3600,
        description="how long the token for the first connection is valid, from 600 to 86400; "
        "afterwards the certificate renews itself",
    )
    certificate_seconds: Annotated[int, Field(ge=30, le=90 * 86400)] = Field(
        default=86400,
        description="how long each certificate of a VM is valid, from 30 to 7776000; it is renewed in good time",
    )
    application: Literal["sample", "none"] = Field(
        default="sample",
        description="`sample` puts a small HTTP application on the VMs; `none` leaves that to you, and is what "
        "hosts of driver `existing` have",
    )
    vms: tuple[VmSettings, ...] = Field(default=(), description="VMs of the WorkloadGroup")

    @property
    def service(self) -> str:
        """The Service that the VMs belong to."""
        return self.app or self.name


class SampleSettings(Table):
    """What proves traffic: helloworld, and pods to call from."""

    enabled: bool = Field(
        default=False,
        description="deploy helloworld and clients, and end `up` by calling from pods to VMs and back; "
        "off, `up` proves the VMs' health only",
    )
    namespace: DnsLabel = Field(
        default="sample",
        description="namespace of helloworld and the clients `curl` and `stranger`. `<namespace>-guarded` has a client "
        "with a sidecar and one without; `<namespace>-outside`, which is not in the mesh, has one without",
    )
    helloworld_images: dict[Literal["v1", "v2"], str] = Field(
        default={
            "v1": "docker.io/istio/examples-helloworld-v1:1.0",
            "v2": "docker.io/istio/examples-helloworld-v2:1.0",
        },
        description="images of helloworld's two versions",
    )
    client_image: str = Field(default="docker.io/curlimages/curl:8.16.0", description="image with `curl` and `sleep`")
