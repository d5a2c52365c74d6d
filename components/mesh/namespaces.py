"""The namespaces of the stack's pods, those of VMs' Services among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import pulumi
import pulumi_kubernetes as kubernetes

from components.cluster.access import ClusterAccess
from components.mesh.control_plane import ControlPlane


class MeshNamespacesArgs(TypedDict):
    """Which namespaces."""

    cluster: ClusterAccess
    control_plane: ControlPlane
    in_mesh: Sequence[str]
    """Names of those whose pods get a sidecar of the control plane's revision."""
    outside: Sequence[str]
    """Names of those whose pods get none."""


class MeshNamespaces(pulumi.ComponentResource):
    """Namespaces, labelled for their sidecars."""

    by_name: Mapping[str, pulumi.Output[str]]
    """Each one's name, known once the namespace exists."""
    in_mesh: Mapping[str, pulumi.Output[str]]
    """Those whose pods get a sidecar."""

    def __init__(self, name: str, args: MeshNamespacesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make them once istiod serves: a pod made before would come up without a sidecar."""
        super().__init__("istio-vms:mesh:MeshNamespaces", name, None, opts)
        revision = {"istio.io/rev": args["control_plane"].revision}
        self.in_mesh = {key: self._namespace(key, revision, args) for key in args["in_mesh"]}
        self.by_name = {**self.in_mesh, **{key: self._namespace(key, {}, args) for key in args["outside"]}}
        self.register_outputs({})

    def _namespace(self, name: str, labels: Mapping[str, str], args: MeshNamespacesArgs) -> pulumi.Output[str]:
        made = kubernetes.core.v1.Namespace(
            f"namespace-{name}",
            metadata={"name": name, "labels": labels},
            opts=args["cluster"].options(
                self,
                args["control_plane"].istiod,
                formerly=[pulumi.Alias(name=f"namespace-{name}", parent=pulumi.ROOT_STACK_RESOURCE)],
            ),
        )
        return made.metadata.apply(lambda metadata: str(metadata.name))
