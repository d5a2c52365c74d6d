"""Access logs of the sidecars, by Istio's Telemetry API.

A function and no component: for the whole mesh it is a single resource, and a component around one would only hide it.
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from components.cluster.access import ClusterAccess
from components.mesh.control_plane import ControlPlane
from components.mesh.objects import TELEMETRY, istio_object

_SPEC = {"accessLogging": [{"providers": [{"name": "envoy"}]}]}
"""`envoy` is a provider that every mesh config has (istio's pkg/config/mesh): a line of text on the sidecar's standard output."""


def access_logs(
    name: str, cluster: ClusterAccess, control_plane: ControlPlane, namespaces: Mapping[str, pulumi.Output[str]] | None
) -> None:
    """Turn access logs on, for some namespaces or, without any, for the whole mesh.

    Args:
        name: the resources' common name.
        cluster: where.
        control_plane: whose sidecars; a Telemetry in its own namespace is the mesh's.
        namespaces: names to the namespaces themselves, or None for the mesh.
    """
    options = cluster.options(control_plane, control_plane.crds)
    if namespaces is None:
        istio_object(name, TELEMETRY, "Telemetry", "mesh-default", control_plane.namespace, _SPEC, options)
        return
    for key, namespace in namespaces.items():
        istio_object(f"{name}-{key}", TELEMETRY, "Telemetry", "access-logs", namespace, _SPEC, options)
