"""The pods of the mesh's namespaces, once all have a sidecar of the mesh's revision.

The old istiod goes when this is done, and not at all when it fails: a pod whose istiod is gone is not told of any change any more, and
loses its certificate within a day.
"""

from __future__ import annotations

from collections.abc import Mapping

import pulumi

from actions.registry import REINJECT
from components.action import run
from components.cluster.access import ClusterAccess
from components.mesh.control_plane import ControlPlane

RESTART_SECONDS = 600


def reinjection(
    name: str, cluster: ClusterAccess, control_plane: ControlPlane, namespaces: Mapping[str, pulumi.Output[str]]
) -> pulumi.Resource:
    """Restart what has others; when all are right it is one look. Nothing of a mesh waits for it but the proof of its traffic."""
    return run(
        name,
        REINJECT,
        {
            "kubeconfig": cluster.kubeconfig,
            "namespaces": [namespaces[key] for key in sorted(namespaces)],
            "revision": control_plane.revision,
            "timeout_seconds": RESTART_SECONDS,
        },
        pulumi.ResourceOptions(
            parent=control_plane,
            depends_on=[control_plane.istiod, control_plane.default],
            deleted_with=cluster.made_by,
        ),
    ).resource
