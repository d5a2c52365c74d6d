"""The mesh's root certificate, which every VM is given before it trusts anything."""

from __future__ import annotations

import pulumi

from components.cluster.access import ClusterAccess
from components.local_command import answer, run_module
from components.mesh.control_plane import ControlPlane


def root_certificate(name: str, cluster: ClusterAccess, control_plane: ControlPlane) -> pulumi.Output[str]:
    """PEM, as soon as istiod has published it. Public."""
    read = run_module(
        name,
        "components.workloads",
        "root-certificate",
        {"kubeconfig": cluster.kubeconfig, "namespace": control_plane.namespace},
        pulumi.ResourceOptions(parent=control_plane, depends_on=[control_plane.istiod], deleted_with=cluster.made_by),
    )
    return pulumi.Output.unsecret(answer(read)["root_certificate"])
