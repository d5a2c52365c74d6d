"""Every action by its name. What an action needs besides its request, a cluster or a machine, is made here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from actions.cluster import claim as claims
from actions.cluster import membership, node
from actions.cluster.k3s_removal import REMOVE
from actions.kube import ApiCluster, Cluster
from actions.machines import keys
from actions.machines.driver import (
    MachineId,
    MachineSpec,
    MachineState,
    OwnerRequest,
    Removal,
    Snapshot,
    TakesSnapshots,
)
from actions.machines.drivers import driver
from actions.mesh import addresses, published
from actions.mesh import reinject as restarts
from actions.protocol import Action, Failure, Nothing, Progress
from actions.samples import proof
from actions.workloads import join as joining
from actions.workloads.vm import LEAVE, Vm


class _WithKubeconfig(Protocol):
    @property
    def kubeconfig(self) -> str: ...


C = TypeVar("C", bound=_WithKubeconfig)
R = TypeVar("R")


def _on_cluster(act: Callable[[C, Cluster, Progress], R]) -> Callable[[C, Progress], R]:
    """Hands an action the cluster of its request."""

    def run(request: C, progress: Progress) -> R:
        return act(request, ApiCluster(request.kubeconfig), progress)

    run.__doc__ = act.__doc__
    return run


def _ensure(spec: MachineSpec, progress: Progress) -> MachineState:
    """Make, adopt, start or resize a machine."""
    return driver(spec.driver, REMOVALS).ensure(spec, progress)


def _update(spec: MachineSpec, progress: Progress) -> MachineState:
    """Start or resize a machine that has been made."""
    return driver(spec.driver, REMOVALS).update(spec, progress)


def _delete(machine: MachineId, progress: Progress) -> Nothing:
    """Remove a machine."""
    driver(machine.driver, REMOVALS).delete(machine.name, machine.owner, machine.options, progress)
    return {}


def _list(asked: OwnerRequest, progress: Progress) -> list[MachineState]:
    """List an owner's machines."""
    return driver(asked.driver, REMOVALS).list(asked.owner, asked.options)


def _snapshot(spec: MachineSpec, progress: Progress) -> Snapshot:
    """Take a snapshot of a machine."""
    able = driver(spec.driver, REMOVALS)
    if not isinstance(able, TakesSnapshots):
        raise Failure(f"machines of driver {spec.driver} have no snapshots; those of multipass do")
    return able.snapshot(spec, progress)


def _join(request: joining.JoinRequest, progress: Progress) -> joining.Joined:
    """Make a machine a healthy member of the mesh."""
    with Vm(request.ssh) as vm:
        return joining.Join(request, ApiCluster(request.kubeconfig), vm, progress).run()


def _leave(request: joining.JoinRequest, progress: Progress) -> joining.Left:
    """Take a machine out of the mesh, as far as it and the cluster can be reached."""
    with Vm(request.ssh) as vm:
        return joining.leave(request, ApiCluster(request.kubeconfig), vm, progress)


REMOVALS = (Removal(*LEAVE), Removal(REMOVE))
"""Whoever puts something on a machine has here what removes it, in the order that these are run in."""

MAKE_SECRETS = Action("machines.make-secrets", keys.SecretsRequest, keys.Secrets, keys.make_secrets)
ENSURE = Action("machines.ensure", MachineSpec, MachineState, _ensure)
UPDATE = Action("machines.update", MachineSpec, MachineState, _update)
DELETE = Action("machines.delete", MachineId, Nothing, _delete)
LIST = Action("machines.list", OwnerRequest, list[MachineState], _list)
SNAPSHOT = Action("machines.snapshot", MachineSpec, Snapshot, _snapshot)
CLAIM = Action("cluster.claim", claims.ClaimRequest, claims.Claimed, _on_cluster(claims.claim))
RENEW = Action("cluster.renew", claims.ClaimRequest, claims.Claimed, _on_cluster(claims.renew))
RELEASE = Action("cluster.release", claims.ClaimRequest, Nothing, _on_cluster(claims.release))
BEGIN = Action("cluster.begin", node.InstallRequest, node.Installed, node.begin)
INSTALL = Action("cluster.install", node.InstallRequest, node.Installed, node.install)
MEMBER = Action("cluster.member", membership.NodeRequest, membership.Node, membership.member)
LEAVE_CLUSTER = Action("cluster.leave", membership.NodeRequest, Nothing, membership.leave)
RENUMBER = Action("cluster.renumber", membership.RenumberRequest, membership.Node, membership.renumber)
GATEWAY_ADDRESSES = Action(
    "mesh.gateway-addresses",
    addresses.AddressesRequest,
    addresses.GatewayAddresses,
    _on_cluster(addresses.gateway_addresses),
)
ROOT_CERTIFICATE = Action(
    "mesh.root-certificate",
    published.RootCertificateRequest,
    published.RootCertificate,
    _on_cluster(published.read_root_certificate),
)
MESH_CONFIG = Action(
    "mesh.mesh-config", published.MeshConfigRequest, published.MeshConfig, _on_cluster(published.read_mesh_config)
)
REINJECT = Action("mesh.reinject", restarts.ReinjectRequest, restarts.Reinjected, _on_cluster(restarts.reinject))
JOIN = Action("workloads.join", joining.JoinRequest, joining.Joined, _join)
LEAVE_MESH = Action("workloads.leave", joining.JoinRequest, joining.Left, _leave)
PROVE = Action("samples.prove", proof.ProveRequest, list[proof.Evidence], _on_cluster(proof.prove))

ACTIONS: dict[str, Action[Any, Any]] = {
    action.name: action
    for action in (
        MAKE_SECRETS, ENSURE, UPDATE, DELETE, LIST, SNAPSHOT,
        CLAIM, RENEW, RELEASE, BEGIN, INSTALL, MEMBER, LEAVE_CLUSTER, RENUMBER,
        GATEWAY_ADDRESSES, ROOT_CERTIFICATE, MESH_CONFIG, REINJECT,
        JOIN, LEAVE_MESH, PROVE,
    )
}  # fmt: skip
