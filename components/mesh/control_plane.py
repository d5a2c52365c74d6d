"""The Istio control plane: base, istiod with a revision, and what makes that revision the default one.

A change of the revision is a change of istiods: the new one comes up beside the old one, everything moves over once the new one serves,
and the old one goes last, as Pulumi deletes when all else is done. So nothing that moves is part of a release of base or of an istiod.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import pulumi
import pulumi_kubernetes as kubernetes

from components.cluster.access import ClusterAccess
from components.mesh.charts import RELEASE_SECONDS, Charts, merged

NAMESPACE = "istio-system"
_DEFAULT_REVISION_CHART = "./components/mesh/default_revision"
"""Ours. Relative to the program, so that the state is the same whatever folder a checkout is in."""
_ISTIOD_WEBHOOK_VALUES = (
    "sidecarInjectorWebhook", "sidecarInjectorWebhookAnnotations", "serviceAnnotations", "istiodRemote", "ipFamilyPolicy", "ipFamilies",
)  # fmt: skip
"""What Istio's own templates of the tag's objects read of istiod's values."""


class ControlPlaneArgs(TypedDict):
    """What the control plane is."""

    cluster: ClusterAccess
    charts: Charts
    revision: str
    """istiod's revision, such as 1-30-3. Namespaces choose it with the label `istio.io/rev`."""
    mesh_id: str
    cluster_name: str
    """What istiod calls this cluster; every VM has to call it the same."""
    network: str
    """The Istio network of the cluster's pods."""
    trust_domain: str
    hub: NotRequired[str | None]
    """Image registry and path; None for the chart's own."""
    tag: NotRequired[str | None]
    """Image tag; None for the chart's own."""
    base_values: NotRequired[Mapping[str, Any]]
    istiod_values: NotRequired[Mapping[str, Any]]
    """Helm values merged over ours."""
    protect: NotRequired[bool]
    """Refuse to delete or replace the namespace (it has the mesh's root key), the CRDs (all of Istio's objects go with them) and istiod."""


class ControlPlane(pulumi.ComponentResource):
    """Istio's CRDs, and istiod of one revision that is also the default."""

    namespace: pulumi.Output[str]
    """`istio-system`, once it exists."""
    revision: str
    """The revision istiod runs as."""
    istiod_host: str
    """istiod's name inside the mesh: `istiod-<revision>.istio-system.svc`."""
    crds: kubernetes.helm.v3.Release
    """Istio's CRDs: what any Istio resource waits for."""
    istiod: kubernetes.helm.v3.Release
    """The running istiod: what anything with a sidecar waits for."""
    installed: str
    """Tells one installation of istiod from another, by chart and values: another one may make another mesh configuration."""
    default: kubernetes.helm.v3.Release
    """The tag `default` and the default validator, which lead to that istiod."""

    def __init__(self, name: str, args: ControlPlaneArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Install base, then istiod."""
        super().__init__("istio-vms:mesh:ControlPlane", name, None, opts)
        cluster, charts = args["cluster"], args["charts"]
        self.revision = args["revision"]
        self.istiod_host = f"istiod-{self.revision}.{NAMESPACE}.svc"

        def options(*depends_on: pulumi.Resource) -> pulumi.ResourceOptions:
            made = cluster.options(self, *depends_on)
            made.protect = args.get("protect") or None
            return made

        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": NAMESPACE, "labels": {"topology.istio.io/network": args["network"]}},
            opts=options(),
        )
        self.namespace = namespace.metadata.apply(lambda metadata: str(metadata.name))
        self.crds = charts.release(
            "base",
            "istio-base",
            self.namespace,
            merged({"defaultRevision": ""}, args.get("base_values", {})),
            options(),
        )
        values = merged(_istiod_values(args), args.get("istiod_values", {}))
        self.installed = hashlib.sha256(json.dumps([charts.version, values], sort_keys=True).encode()).hexdigest()
        self.istiod = charts.release(
            "istiod",
            f"istiod-{self.revision}",
            self.namespace,
            values,
            options(self.crds),
        )
        self.default = kubernetes.helm.v3.Release(
            "istio-default-revision",
            name="istio-default-revision",
            namespace=self.namespace,
            chart=_DEFAULT_REVISION_CHART,
            values=_default_revision_values(args),
            timeout=RELEASE_SECONDS,
            opts=cluster.options(self, self.istiod),
        )
        self.register_outputs({"revision": self.revision, "istiodHost": self.istiod_host})


def _istiod_values(args: ControlPlaneArgs) -> dict[str, Any]:
    images = {key: args.get(key) for key in ("hub", "tag")}
    return {
        "revision": args["revision"],
        "meshConfig": {"trustDomain": args["trust_domain"]},
        "global": {
            "meshID": args["mesh_id"],
            "network": args["network"],
            "multiCluster": {"clusterName": args["cluster_name"]},
            **{key: value for key, value in images.items() if value},
        },
    }


def _default_revision_values(args: ControlPlaneArgs) -> dict[str, Any]:
    istiod, base = args.get("istiod_values", {}), args.get("base_values", {})
    webhooks = {key: istiod[key] for key in _ISTIOD_WEBHOOK_VALUES if key in istiod}
    validator = {"base": base["base"]} if "base" in base else {}
    return {**webhooks, **validator, "revision": args["revision"]}
