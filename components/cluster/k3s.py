"""A k3s cluster on machines: servers, agents, kubeconfig, provider."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_command as command
import pulumi_kubernetes as kubernetes

from components.artifacts import MachineArtifact
from components.cluster.access import ClusterAccess
from components.cluster.k3s_files import NodeSpec, leave_script, member_script, node_script
from components.machines.machine import Machine


class K3sClusterArgs(TypedDict):
    """What the cluster is made of."""

    servers: Sequence[Machine]
    """Control-plane machines; an odd number. With more than one, etcd is embedded."""
    agents: Sequence[Machine]
    """Worker machines."""
    token: pulumi.Input[str]
    """What machines join with. Secret."""
    version: str
    """k3s release, such as v1.32.0+k3s1. A change upgrades every node in place."""
    binary: MachineArtifact
    """The k3s executable."""
    pod_cidr: str
    service_cidr: str
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
    """Admin kubeconfig with the first server's address. Secret."""
    access: ClusterAccess
    """How the rest of the program works with the cluster."""

    def __init__(self, name: str, args: K3sClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Install k3s on all machines side by side; agents wait for the server by themselves."""
        super().__init__("istio-vms:cluster:K3sCluster", name, None, opts)
        self._args = args
        first, *others = args["servers"]
        first_node = self._node(first, "server", join="")
        self.kubeconfig = pulumi.Output.secret(
            pulumi.Output.all(first_node.stdout, first.address).apply(
                lambda both: both[0].replace("https://127.0.0.1:6443", f"https://{both[1]}:6443")
            )
        )
        url = first.address.apply(lambda address: f"https://{address}:6443")
        joined: list[pulumi.Resource] = [self._member(first, first, first_node)]
        for role, machines in (("server", others), ("agent", args["agents"])):
            for machine in machines:
                joined.append(self._member(first, machine, self._node(machine, role, join=url)))
        provider = kubernetes.Provider(
            f"{name}-kubernetes",
            kubeconfig=self.kubeconfig,
            # Ties the provider to the machine: with a kubeconfig not yet known, everything in the cluster would show as replaced.
            cluster_identifier=first.resource.id,
            # A run that was killed may have left objects that the state does not know yet.
            upsert_existing_objects=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.access = ClusterAccess(
            kubeconfig=self.kubeconfig,
            provider=provider,
            made_by=first.resource,
            node_addresses=pulumi.Output.all(*(m.address for m in [*args["servers"], *args["agents"]])),
            ready=joined,
        )
        self.register_outputs({"kubeconfig": self.kubeconfig})

    def _node(self, machine: Machine, role: str, join: pulumi.Input[str]) -> command.remote.Command:
        """k3s on one machine. On a server stdout is the kubeconfig, hence secret."""
        args = self._args
        plain = NodeSpec(
            name=machine.machine_name,
            role=role,
            address="",
            join="",
            cluster_init=role == "server" and not join and len(args["servers"]) > 1,
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
        )
        script = pulumi.Output.all(machine.address, join).apply(
            lambda known: node_script(dataclasses.replace(plain, address=known[0], join=known[1]))
        )
        return command.remote.Command(
            f"{machine.machine_name}-k3s",
            connection=machine.remote(),
            create=RUN_STDIN,
            update=RUN_STDIN,
            stdin=pulumi.Output.secret(pulumi.Output.format("{}\n{}", args["token"], script)),
            triggers=[machine.resource.id],
            logging=command.remote.Logging.STDERR,
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(
                parent=self,
                additional_secret_outputs=["stdout"],
                deleted_with=machine.resource,
                delete_before_replace=True,
            ),
        )

    def _member(self, server: Machine, machine: Machine, node: command.remote.Command) -> command.remote.Command:
        """Done when the machine is a Ready node; taken out of the cluster when it is deleted.

        A machine made anew under the same name joins only after its old node, and with it the node's password, is gone.
        """
        return command.remote.Command(
            f"{machine.machine_name}-node",
            connection=server.remote(),
            create=as_root(member_script(machine.machine_name)),
            delete=as_root(leave_script(machine.machine_name)),
            triggers=[machine.resource.id],
            logging=command.remote.Logging.STDERR,
            add_previous_output_in_env=False,
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[node], deleted_with=server.resource, delete_before_replace=True
            ),
        )


# A command that fails is printed whole, so the script is not part of it; and the token is no argument of anything.
RUN_STDIN = "sudo bash -c 'IFS= read -r token; source /dev/stdin'"


def as_root(script: str) -> str:
    """The script as one command for an unprivileged user who may use sudo."""
    return f"sudo bash -c {shlex.quote(script)}"
