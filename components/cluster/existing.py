"""A Kubernetes cluster that someone else made, as a place for a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import pulumi
import pulumi_kubernetes as kubernetes

from actions.registry import CLAIM, RELEASE, RENEW
from components.action import run
from components.cluster.access import ClusterAccess


class ExistingClusterArgs(TypedDict):
    """Which cluster, and what the stack will make there."""

    kubeconfig: str | None
    """The kubeconfig of one context, nothing outside of it needed, as `actions.cluster.kubeconfig` reads it. Secret. None, in a preview
    only, where there is none at hand: then the one of before counts."""
    context: str
    """What people call the cluster."""
    owner: str
    """Who takes it: `<project>/<stack>`."""
    namespaces: Sequence[str]
    """Those that the stack makes."""


class ExistingCluster(pulumi.ComponentResource):
    """Takes the cluster for this stack, unless something of another is in the way, and gives it back as it was.

    Other credentials are used from the next `up` on and replace nothing; a kubeconfig that leads to another cluster is refused.
    """

    kubeconfig: pulumi.Output[str]
    """The kubeconfig of the chosen context. Secret."""
    version: pulumi.Output[str]
    """The cluster's Kubernetes version, as it says itself."""
    access: ClusterAccess
    """How the rest of the program works with the cluster."""

    def __init__(self, name: str, args: ExistingClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Look at it before anything else is done there."""
        super().__init__("istio-vms:cluster:ExistingCluster", name, None, opts)
        claimed = run(
            f"{name}-claim",
            CLAIM,
            {
                "kubeconfig": pulumi.Output.secret(args["kubeconfig"] or ""),
                "context": args["context"],
                "owner": args["owner"],
                "namespaces": sorted(args["namespaces"]),
            },
            pulumi.ResourceOptions(
                parent=self,
                additional_secret_outputs=["stdout"],
                ignore_changes=[] if args["kubeconfig"] else ["stdin"],
            ),
            update=RENEW,
            delete=RELEASE,
        )
        claim, document = claimed.resource, claimed.result
        self.kubeconfig = pulumi.Output.secret(document["kubeconfig"])
        self.version = pulumi.Output.unsecret(document["version"])
        provider = kubernetes.Provider(
            f"{name}-kubernetes",
            kubeconfig=self.kubeconfig,
            # Stays while credentials change, which a digest of the kubeconfig would not: nothing there is replaced for them.
            cluster_identifier=claim.id,
            # A run that was killed may have left objects that the state does not know yet; none is anybody else's, the claim sees to that.
            upsert_existing_objects=True,
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.access = ClusterAccess(
            kubeconfig=self.kubeconfig,
            provider=provider,
            made_by=None,
            node_addresses=pulumi.Output.unsecret(document["node_addresses"]),
            node_names=(),
            ready=[claim],
        )
        self.register_outputs({"version": self.version})
