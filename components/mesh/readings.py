"""What VMs are told of the mesh, read from the cluster: its root certificate and its configuration.

Like a gateway's addresses each is the result of an action that only reads. Its inputs change rarely and the world without them, so that
`up` compares every reading with the world first, and has those that differ read again; see `ops/readings.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import pulumi

from actions.mesh.published import MeshConfig
from actions.protocol import Action
from actions.registry import MESH_CONFIG, ROOT_CERTIFICATE
from components.action import run
from components.cluster.access import ClusterAccess
from components.mesh.control_plane import ControlPlane
from components.mesh.gateway import EastWestGateway

R = TypeVar("R")


@dataclass(frozen=True)
class MeshReadings:
    """What is the same for every VM.

    Attributes:
        kubeconfig: of the cluster. Secret.
        node_addresses: of the nodes whose pods a VM may reach directly.
        root_certificate: the mesh's, PEM.
        config: the mesh's, of the control plane's own revision.
        gateway_addresses: of the east-west gateway.
    """

    kubeconfig: str
    node_addresses: Sequence[str]
    root_certificate: str
    config: MeshConfig
    gateway_addresses: Sequence[str]


def read_mesh(
    cluster: ClusterAccess, control_plane: ControlPlane, gateway: EastWestGateway
) -> pulumi.Output[MeshReadings]:
    """Read it as soon as istiod has published it."""
    where = {"kubeconfig": cluster.kubeconfig, "namespace": control_plane.namespace}
    root = _read("root-certificate", ROOT_CERTIFICATE, where, cluster, control_plane)
    which = {"revision": control_plane.revision, "installed": control_plane.installed}
    config = _read("mesh-config", MESH_CONFIG, {**where, **which}, cluster, control_plane)
    return pulumi.Output.all(cluster.kubeconfig, cluster.node_addresses, root, config, gateway.addresses).apply(
        lambda known: MeshReadings(known[0], known[1], known[2]["root_certificate"], known[3], known[4])
    )


def _read(
    name: str,
    action: Action[Any, R],
    document: Mapping[str, pulumi.Input[Any]],
    cluster: ClusterAccess,
    control_plane: ControlPlane,
) -> pulumi.Output[R]:
    options = pulumi.ResourceOptions(
        parent=control_plane, depends_on=[control_plane.istiod], deleted_with=cluster.made_by
    )
    return pulumi.Output.unsecret(run(name, action, document, options).result)
