"""Machines: what they share, what they are fetched, and how large each one is."""

from typing import Annotated

from pydantic import Field

from components.settings.tables.base import Table, WhenUnset
from components.settings.values import (
    Cidr,
    Disk,
    DnsLabel,
    DriverName,
    HostKey,
    HttpsUrl,
    LocalPath,
    Memory,
    Port,
    Sha256,
    matching,
)


class Artifact(Table):
    """A file that machines need: fetched from `url`, or found at `path`, and verified either way."""

    url: HttpsUrl | None = Field(default=None, description="fetch the file from here, with `sha256` or `checksums`")
    sha256: Sha256 | None = Field(default=None, description="compare the file from `url` with this digest")
    checksums: HttpsUrl | None = Field(
        default=None,
        description="compare it with the publisher's own checksum file at this URL instead. "
        "What is pinned then is the version in the URL, and trust is in TLS",
    )
    path: LocalPath | None = Field(
        default=None,
        description="take a file under one of `machines.mounts` instead, compared with the `SHA256SUMS` beside it. "
        "With driver `existing` it is a file that the owner has put on every host",
    )
    arm64: "Artifact | None" = Field(
        default=None, description="use this artifact instead on machines of that architecture, with the same settings"
    )


class NetworkSettings(Table):
    """A network that machines are attached to."""

    name: DnsLabel = Field(description="name that nodes and VMs refer to in their `network`")
    cidr: Cidr | None = Field(
        default=None,
        description="IPv4 network such as `10.89.0.0/24`; **needed** for `nspawn`, refused for other drivers",
    )


class MountSettings(Table):
    """A folder of the operator's machine that every machine sees read-only."""

    source: LocalPath = Field(description="folder of this machine")
    target: Annotated[str, matching(r"(/[A-Za-z0-9._-]+)+", "should be an absolute path on the machine")] = Field(
        description="absolute path on every machine"
    )


class HostSettings(Table):
    """An existing host, for driver `existing`."""

    host: str = Field(description="name or address to connect to over SSH")
    port: Port = Field(default=22, description="port of SSH")
    host_key: HostKey = Field(description="public host key to pin: type and base64, as in `known_hosts`")


class MultipassSettings(Table):
    """Options of driver `multipass`."""

    networks: tuple[str, ...] = Field(
        default=(), description="further networks, each as `multipass launch --network` takes it"
    )
    timeout_seconds: Annotated[int, Field(ge=60)] = Field(
        default=900, description="how long one machine may take to come up, its image's download included"
    )
    snapshots: Annotated[int, Field(ge=0, le=10)] = Field(
        default=0,
        description="how many to keep of the snapshots taken before each resize, up to 10; "
        "`0` takes none. See [docs/multipass.md](multipass.md)",
    )


class MachinesSettings(Table):
    """What all machines share."""

    driver: DriverName = Field(
        description="`nspawn` (Linux, root: containers that boot systemd), `multipass` (laptops) or `existing` "
        "([hosts reached over SSH](stacks.md#existing-cluster-and-hosts), left as they were)"
    )
    image: Annotated[str, WhenUnset("**needed**, except `existing`")] = Field(
        default="",
        description="boot this: the path of a root file system (`nspawn`), or an image's name such as `24.04` "
        "(`multipass`). A pool of the cluster or a VM may have its own `image`; with one everywhere this may be "
        "left out. Another image recreates the machine",
    )
    user: Annotated[str, matching(r"[a-z_][a-z0-9_-]{0,31}", "should be a Linux user name")] = Field(
        default="ubuntu", description="Linux user that the stack's key opens; has sudo"
    )
    networks: Annotated[tuple[NetworkSettings, ...], Field(min_length=1)] = Field(
        default=(NetworkSettings(name="default"),),
        description="networks that machines are attached to; `nspawn` makes a bridge for each",
    )
    mounts: tuple[MountSettings, ...] = Field(
        default=(), description="folders of this machine that every machine sees read-only"
    )
    private_key_file: LocalPath | None = Field(
        default=None,
        description="`existing` only: the OpenSSH key that opens the hosts. "
        "With other drivers a key is made for the stack",
    )
    multipass: MultipassSettings = Field(
        default=MultipassSettings(), description="`multipass` only: the driver's options"
    )


class Sizes(Table):
    """The size of one machine, and what it boots where that is not `machines.image`."""

    image: Annotated[str | None, WhenUnset("`machines.image`")] = Field(default=None, description="boot this instead")
    cpus: Annotated[int, Field(ge=1, le=128)] = Field(default=2, description="CPUs, up to 128")
    memory: Memory = Field(default="2Gi", description="memory in whole `Mi` or `Gi`, from `512Mi` on")
    disk: Disk = Field(default="10Gi", description="disk in whole `Mi` or `Gi`, from `5Gi` on")
