"""Who may talk to whom: mutual TLS, and authorization by service account, for pods and VMs alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import pulumi

from components.cluster.access import ClusterAccess
from components.mesh.control_plane import NAMESPACE, ControlPlane
from components.mesh.objects import SECURITY, istio_object
from components.names import formerly, resource_name
from components.settings import AuthorizationSettings, MtlsMode


class MeshPoliciesArgs(TypedDict):
    """The policies of a mesh."""

    cluster: ClusterAccess
    control_plane: ControlPlane
    namespaces: Mapping[str, pulumi.Input[str]]
    """The namespaces that policies are in, by their names."""
    trust_domain: str
    """The mesh's, with which every principal begins."""
    mtls: MtlsMode
    """What sidecars of the whole mesh accept."""
    namespace_mtls: Mapping[str, MtlsMode]
    """Names of namespaces with a mode of their own to that mode."""
    authorization: Sequence[AuthorizationSettings]
    """Who may call an application; anybody else gets 403, or on a TCP port a closed connection. Policies of one app add up."""


class MeshPolicies(pulumi.ComponentResource):
    """PeerAuthentications and AuthorizationPolicies."""

    def __init__(self, name: str, args: MeshPoliciesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Apply them; sidecars know of them within a second or two."""
        super().__init__("istio-vms:mesh:MeshPolicies", name, None, opts)
        crds = args["control_plane"].crds
        options = args["cluster"].options(self, crds)
        # One called `default` in Istio's own namespace is the mesh's, in any other that namespace's.
        modes = {NAMESPACE: args["mtls"], **args["namespace_mtls"]}
        namespaces = {**args["namespaces"], NAMESPACE: args["control_plane"].namespace}
        for key, mode in modes.items():
            istio_object(
                f"{name}-mtls-{key}",
                SECURITY,
                "PeerAuthentication",
                "default",
                namespaces[key],
                {"mtls": {"mode": mode.value}},
                options,
            )
        for policy in args["authorization"]:
            former = formerly(f"{name}-authorization-{policy.namespace}-{policy.name}")
            istio_object(
                resource_name("AuthorizationPolicy", (policy.namespace, policy.name)),
                SECURITY,
                "AuthorizationPolicy",
                policy.name,
                namespaces[policy.namespace],
                authorization_spec(policy.app, policy.allow, args["trust_domain"]),
                args["cluster"].options(self, crds, formerly=[former]),
            )
        self.register_outputs({})


def authorization_spec(app: str, allow: Sequence[str], trust_domain: str) -> dict[str, Any]:
    """An AuthorizationPolicy that admits these accounts only; a WorkloadEntry has the labels of its WorkloadGroup."""
    principals = [
        f"{trust_domain}/ns/{namespace}/sa/{account}"
        for namespace, account in (entry.split("/") for entry in sorted(allow))
    ]
    return {
        "selector": {"matchLabels": {"app": app}},
        "action": "ALLOW",
        "rules": [{"from": [{"source": {"principals": principals}}]}],
    }
