"""What the rest of the program needs of a cluster, whichever component made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes


@dataclass(frozen=True)
class ClusterAccess:
    """How to work with a cluster."""

    kubeconfig: pulumi.Output[str]
    """Admin kubeconfig, as YAML. Secret."""
    provider: kubernetes.Provider
    """Acts with that kubeconfig."""
    made_by: pulumi.Resource | None
    """The resource whose deletion takes the cluster along; must be a custom resource. None where nothing does."""
    node_addresses: pulumi.Output[list[str]]
    """Addresses of the nodes, servers first."""
    node_names: Sequence[str]
    """The names of all nodes that there are to be; none where the cluster is someone else's."""
    ready: Sequence[pulumi.Resource]
    """Done when every node is Ready."""

    def options(
        self, parent: pulumi.Resource | None, *depends_on: pulumi.Resource, formerly: Sequence[pulumi.Alias] = ()
    ) -> pulumi.ResourceOptions:
        """Options for a Kubernetes resource; `formerly` is what a state may call it.

        Where we made the cluster, `deleted_with` spares `destroy` the deletion of objects whose cluster goes too. It is not inherited,
        so every resource needs it.
        """
        return pulumi.ResourceOptions(
            parent=parent,
            provider=self.provider,
            depends_on=list(depends_on),
            deleted_with=self.made_by,
            aliases=list(formerly),
        )
