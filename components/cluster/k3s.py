"""A k3s cluster on machines: servers, agents, kubeconfig, provider."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_command as command
import pulumi_kubernetes as kubernetes

from actions.artifacts import MachineArtifact
from actions.cluster.k3s_files import NodeSpec, node_script
from actions.cluster.node import Installed
from actions.registry import BEGIN, INSTALL, LEAVE_CLUSTER, MEMBER
from components.action import Done, run
from components.cluster.access import ClusterAccess
from components.machines.machine import Machine


class K3sClusterArgs(TypedDict):
    """What the cluster is made of."""

    servers: Sequence[Machine]
    """Control-plane machines; an odd number. With more than one, etcd is embedded, and they join and are upgraded one after another."""
    agents: Sequence[Machine]
    """Worker machines."""
    token: pulumi.Input[str]
    """What machines join with. Secret."""
    version: str
    """k3s release, such as v1.32.0+k3s1, which `binary` has to be. Changed together, every node is upgraded in place."""
    binary: MachineArtifact
    """The k3s executable."""
    pod_cidr: str
    service_cidr: str
    endpoint: NotRequired[str | None]
    """Name or address of what stands in front of the servers, for clients and joining nodes; None for the first server's own address."""
    protect: NotRequired[bool]
    """Refuse to take a server out of the cluster."""
    tools: NotRequired[MachineArtifact | None]
    """A tar of the executables k3s calls (runc, the containerd shim, CNI plugins), when its own has none inside."""
    images: NotRequired[Sequence[MachineArtifact]]
    """Image archives loaded before the first pod."""
    disable: NotRequired[Sequence[str]]
    """Packaged components to leave out, besides Traefik."""
    config: NotRequired[Mapping[str, Any]]
    """Further keys of k3s's config.yaml, on every node."""
    service_options: NotRequired[Mapping[str, str]]
    """Lines of the systemd unit's [Service] section."""
    containerd_template: NotRequired[str]
    """`config.toml.tmpl`; empty for k3s's own."""


class K3sCluster(pulumi.ComponentResource):
    """k3s with Traefik off and ServiceLB on."""

    kubeconfig: pulumi.Output[str]
    """Admin kubeconfig with the endpoint, or the first server's address. Secret."""
    access: ClusterAccess
    """How the rest of the program works with the cluster."""

    def __init__(self, name: str, args: K3sClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Install k3s on all machines. Agents of a single server wait for it by themselves; several servers come one after another."""
        super().__init__("istio-vms:cluster:K3sCluster", name, None, opts)
        self._args = args
        self._identity = self._begun_by(name)
        made_by = self._identity if self._several else args["servers"][0].resource
        first_node, joined = self._nodes(made_by)
        self.kubeconfig = pulumi.Output.secret(
            pulumi.Output.all(first_node.result, self._url()).apply(
                lambda both: both[0]["kubeconfig"].replace("https://127.0.0.1:6443", both[1])
            )
        )
        provider = kubernetes.Provider(
            f"{name}-kubernetes",
            kubeconfig=self.kubeconfig,
            # Ties the provider to the cluster: with a kubeconfig not yet known, everything in the cluster would show as replaced.
            cluster_identifier=self._identity.stdout if self._several else made_by.id,
            # A run that was killed may have left objects that the state does not know yet.
            upsert_existing_objects=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        machines = [*args["servers"], *args["agents"]]
        self.access = ClusterAccess(
            kubeconfig=self.kubeconfig,
            provider=provider,
            made_by=made_by,
            node_addresses=pulumi.Output.all(*(machine.address for machine in machines)),
            node_names=[machine.machine_name for machine in machines],
            ready=joined,
        )
        self.register_outputs({"kubeconfig": self.kubeconfig})

    @property
    def _several(self) -> bool:
        return len(self._args["servers"]) > 1

    def _url(self) -> pulumi.Input[str]:
        """Where the API is reached."""
        endpoint = self._args.get("endpoint")
        return _api(endpoint) if endpoint else self._args["servers"][0].address.apply(_api)

    def _begun_by(self, name: str) -> command.local.Command:
        """Remembers the machine that the cluster began with, for as long as there is the cluster.

        It outlives every single server of several: with the provider tied to a machine, all objects would be recreated with that machine. A
        single server has it only to be known already once more of them are asked for: else that preview would have everything replaced.
        """
        return command.local.Command(
            f"{name}-identity",
            create=pulumi.Output.format("echo {}", self._args["servers"][0].resource.id),
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(
                parent=self,
                ignore_changes=["create"] if self._several else None,
                protect=True if self._args.get("protect") else None,
            ),
        )

    def _nodes(self, made_by: pulumi.Resource) -> tuple[Done[Installed], list[pulumi.Resource]]:
        """The first server's k3s, and what is done when each machine is a Ready node.

        With several servers each waits for the one before, and agents for all of them: so k3s wants its servers joined and upgraded.
        """
        servers, joined = self._args["servers"], list[pulumi.Resource]()
        nodes: list[Done[Installed]] = []
        for machine in servers:
            nodes.append(self._node(machine, "server", joined[-1:]))
            joined.append(self._member(machine, nodes[-1], made_by, protect=bool(self._args.get("protect"))))
        before = list(joined) if self._several else []
        for machine in self._args["agents"]:
            joined.append(self._member(machine, self._node(machine, "agent", before), made_by, protect=False))
        return nodes[0], joined

    def _node(self, machine: Machine, role: str, after: Sequence[pulumi.Resource]) -> Done[Installed]:
        """k3s on one machine."""
        args = self._args
        peers = self._peers(machine) if role == "server" else []
        plain = NodeSpec(
            name=machine.machine_name,
            role=role,
            address="",
            join="",
            version=args["version"],
            binary=args["binary"],
            pod_cidr=args["pod_cidr"],
            service_cidr=args["service_cidr"],
            tools=args.get("tools"),
            images=tuple(args.get("images", ())),
            disable=tuple(args.get("disable", ())),
            config=args.get("config", {}),
            service_options=args.get("service_options", {}),
            containerd_template=args.get("containerd_template", ""),
            endpoint=args.get("endpoint") or "",
        )
        founder = self._identity.stdout if self._several else ""
        script = pulumi.Output.all(
            machine.address, self._url() if role == "agent" else "", founder, machine.resource.id, *peers
        ).apply(lambda known: _script(plain, *known))
        return run(
            f"{machine.machine_name}-k3s",
            # Only the run that makes a server may begin a cluster.
            BEGIN if peers else INSTALL,
            {"node": machine.machine_name, "machine": machine.connection, "token": args["token"], "script": script},
            pulumi.ResourceOptions(
                parent=self,
                depends_on=list(after),
                additional_secret_outputs=["stdout"],
                deleted_with=machine.resource,
                delete_before_replace=True,
                # What states of before call it.
                aliases=[pulumi.Alias(type_="command:remote:Command")],
            ),
            update=INSTALL,
            replace_on=[machine.resource.id],
        )

    def _peers(self, machine: Machine) -> list[pulumi.Input[str]]:
        """The other servers' URLs, the endpoint first."""
        others = [other.address.apply(_api) for other in self._args["servers"] if other is not machine]
        endpoint = self._args.get("endpoint")
        return [*([_api(endpoint)] if endpoint and others else []), *others]

    def _member(
        self, machine: Machine, node: Done[Installed], made_by: pulumi.Resource, *, protect: bool
    ) -> command.local.Command:
        """Done when the machine is a Ready node; taken out of the cluster, through any server that answers, when it is deleted.

        A machine recreated under the same name joins only after its old node, and with it the node's password and etcd member, is gone.
        """
        return run(
            f"{machine.machine_name}-node",
            MEMBER,
            {
                "node": machine.machine_name,
                "address": "" if "node-ip" in self._args.get("config", {}) else machine.address,
                "machine": machine.connection,
                "servers": [{"name": one.machine_name, "ssh": one.connection} for one in self._args["servers"]],
            },
            pulumi.ResourceOptions(
                parent=self,
                depends_on=[node.resource],
                deleted_with=made_by,
                delete_before_replace=True,
                protect=True if protect else None,
                # What it was before it could go through any server; as another resource it would take the node out of the cluster.
                aliases=[pulumi.Alias(type_="command:remote:Command")],
            ),
            delete=LEAVE_CLUSTER,
            replace_on=[machine.resource.id],
        ).resource


def _script(plain: NodeSpec, address: str, join: str, founder: str, own_id: str, *peers: str) -> str:
    return node_script(dataclasses.replace(plain, address=address, join=join, peers=peers, founder=founder == own_id))


def _api(host: str) -> str:
    return f"https://{host}:6443"
