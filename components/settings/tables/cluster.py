"""The cluster: k3s on machines of the stack, or an existing one."""

from typing import Annotated, Any

from pydantic import Field

from components.settings.tables.base import Table, WhenUnset
from components.settings.tables.machines import Artifact, HostSettings, Sizes
from components.settings.values import Cidr, DnsLabel, HostName, K3sVersion, LocalPath, PackagedComponent


class NodePool(Sizes):
    """Machines of one kind in the cluster."""

    count: Annotated[int, Field(ge=0, le=50)] = Field(default=0, description="how many machines, up to 50")
    hosts: tuple[HostSettings, ...] = Field(
        default=(), description="driver `existing` only: the existing hosts, which set the number instead of `count`"
    )

    @property
    def size(self) -> int:
        """How many machines the pool has."""
        return len(self.hosts) or self.count


class ClusterSettings(Table):
    """A k3s cluster on machines of the stack, unless there is an existing one; Traefik is off and ServiceLB on."""

    version: K3sVersion = Field(
        description="k3s release in full, such as `v1.36.5+k3s1`; from v1.32 on, which Istio from 1.30 on needs. "
        "`binary` has to be that release, or no node takes it. Change both to upgrade every node in place, "
        "[one minor version at a time, never back](high-availability.md#another-kubernetes)"
    )
    endpoint: Annotated[HostName | None, WhenUnset("server-1's address")] = Field(
        default=None,
        description="name or address of a load balancer or virtual IP in front of several servers, port 6443: "
        "kubeconfig and agents use it, and it is in the servers' certificates",
    )
    binary: Artifact = Field(description="[artifact](#artifacts): the k3s executable")
    tools: Artifact | None = Field(
        default=None,
        description="artifact: a tar of what k3s calls (runc, the containerd shim, CNI plugins), "
        "for a k3s built without them",
    )
    images: tuple[Artifact, ...] = Field(
        default=(),
        description="artifacts: image archives, `.tar`, `.tar.gz`, `.tgz`, `.tar.zst` or `.tzst`, loaded before the "
        "first pod, into a running cluster without a restart of k3s. One that is taken out of the list is no longer "
        "loaded; its images stay until they are garbage-collected as unused",
    )
    network: DnsLabel = Field(default="default", description="machine network that the nodes are on")
    pod_cidr: Cidr = Field(
        default="10.42.0.0/16", description="addresses of pods; must not overlap `serviceCidr` or any machine network"
    )
    service_cidr: Cidr = Field(
        default="10.43.0.0/16", description="addresses of Services; must not overlap `podCidr` or any machine network"
    )
    servers: NodePool = Field(
        default=NodePool(count=1, memory="3Gi"),
        description="pool of servers: an odd number, from three on with embedded etcd "
        "([several servers](high-availability.md))",
    )
    agents: NodePool = Field(
        default=NodePool(count=2), description="pool of agents, with the same settings as `servers`: any number"
    )
    disable: tuple[PackagedComponent, ...] = Field(
        default=(), description="packaged components to leave out besides Traefik: `metrics-server`, `local-storage`"
    )
    config: dict[str, Any] = Field(
        default={},
        description="further keys of k3s's `config.yaml`: those for [servers](https://docs.k3s.io/cli/server) on "
        "servers, those for [agents](https://docs.k3s.io/cli/agent) on all nodes. What the program sets or relies on "
        "is refused, with what to use instead (`actions/cluster/k3s_keys.py`); `disable-network-policy` excludes "
        "`policies.egressGuards`",
    )
    service_options: dict[str, str] = Field(
        default={}, description="further lines of the systemd unit's `[Service]` section"
    )
    containerd_template: str = Field(default="", description="`config.toml.tmpl` for containerd")

    @property
    def pools(self) -> dict[str, NodePool]:
        """The pools of machines by their setting's name, servers first."""
        return {"servers": self.servers, "agents": self.agents}


class KubeconfigSettings(Table):
    """A context of a kubeconfig."""

    kubeconfig: LocalPath = Field(
        default="~/.kube/config", validate_default=True, description="file that has the context"
    )
    context: Annotated[str, Field(min_length=1)] = Field(
        description="context of the cluster, which has to be named, as the current one changes"
    )


class ExistingClusterSettings(Table):
    """An existing cluster instead of k3s, which takes these settings only."""

    existing: KubeconfigSettings = Field(
        description="how to reach the cluster; [docs/stacks.md](stacks.md#existing-cluster-and-hosts) says what it has "
        "to be, and what is left of the stack there"
    )
    network: DnsLabel = Field(
        default="default", description="machine network that the nodes are in, for VMs with routes to pods"
    )

    @property
    def pools(self) -> dict[str, NodePool]:
        """None: the machines of its nodes are not the stack's."""
        return {}


AnyCluster = ClusterSettings | ExistingClusterSettings


class ProtectionSettings(Table):
    """What `make down` and a replacement are refused for."""

    machines: bool = Field(default=False, description="Pulumi's `protect` on every machine: servers, agents, VMs")
    control_plane: bool = Field(
        default=False,
        description="the same on what takes a server out of the cluster, on the identity of a cluster with several "
        "servers, and on Istio's namespace (it has the mesh's root key), CRDs and istiod",
    )
