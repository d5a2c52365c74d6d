"""What VMs are told of the mesh, read from the cluster: its root certificate and its configuration.

Like a gateway's addresses each is the result of an action that only reads. Its inputs change rarely and the world without them, so that
`up` compares every reading with the world first, and has those that differ read again; see `ops/readings.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pulumi

from actions.mesh.published import MeshConfig
from actions.protocol import Action
from actions.registry import MESH_CONFIG, ROOT_CERTIFICATE
from components.action import run
from components.cluster.access import ClusterAccess
from components.mesh.control_plane import ControlPlane

R = TypeVar("R")


@dataclass(frozen=True)
class MeshReadings:
    """What every VM is told of the mesh. Public.

    Attributes:
        root_certificate: PEM.
        config: that of the control plane's own revision.
    """

    root_certificate: str
    config: MeshConfig


def read_mesh(cluster: ClusterAccess, control_plane: ControlPlane) -> pulumi.Output[MeshReadings]:
    """Read it as soon as istiod has published it."""
    where = {"kubeconfig": cluster.kubeconfig, "namespace": control_plane.namespace}
    root = _read("root-certificate", ROOT_CERTIFICATE, where, cluster, control_plane)
    which = {"revision": control_plane.revision, "installed": control_plane.installed}
    config = _read("mesh-config", MESH_CONFIG, {**where, **which}, cluster, control_plane)
    return pulumi.Output.all(root, config).apply(lambda both: MeshReadings(both[0]["root_certificate"], both[1]))


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
