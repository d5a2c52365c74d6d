"""What VMs are told of the mesh, read from the cluster: its root certificate and its configuration.

Like a gateway's addresses each is the answer of a command that only reads. Its inputs change rarely and the world without them, so that
`up` compares every reading with the world first, and has those that differ read again; see `ops/readings.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import pulumi

from actions.mesh.published import MeshConfig
from actions.protocol import Action
from actions.registry import MESH_CONFIG, ROOT_CERTIFICATE
from components.action import run
from components.cluster.access import ClusterAccess
from components.mesh.control_plane import ControlPlane

R = TypeVar("R")


def root_certificate(name: str, cluster: ClusterAccess, control_plane: ControlPlane) -> pulumi.Output[str]:
    """PEM, as soon as istiod has published it. Public."""
    document = {"kubeconfig": cluster.kubeconfig, "namespace": control_plane.namespace}
    return _read(name, ROOT_CERTIFICATE, document, cluster, control_plane)["root_certificate"]


def mesh_config(name: str, cluster: ClusterAccess, control_plane: ControlPlane) -> pulumi.Output[MeshConfig]:
    """What `actions.mesh.published.mesh_config` says of this control plane's own revision. Public."""
    document = {
        "kubeconfig": cluster.kubeconfig,
        "namespace": control_plane.namespace,
        "revision": control_plane.revision,
        "installed": control_plane.installed,
    }
    return _read(name, MESH_CONFIG, document, cluster, control_plane)


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
