"""What a change of `mesh.revision` would break on, said before anything is done; and pods that a change has left behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from actions.kube import ApiCluster, KubeError
from actions.mesh.injection import uninjected
from actions.registry import REINJECT
from ops import state
from ops.errors import OpsError
from ops.workspace import PROJECT, Stack

RELEASE = "kubernetes:helm.sh/v3:Release"


def refuse(stack: Stack, deployment: state.Deployment) -> None:
    """See that an istiod which the settings no longer name can go.

    Raises:
        OpsError: it cannot; the message says what to do first.
    """
    wanted = (stack.settings().get("mesh") or {}).get("revision")
    for istiod, values in _istiods(deployment):
        revision = values["revision"]
        if wanted in (None, revision):
            continue
        if values.get("revisionTags"):
            # Helm deletes what is in a release that goes, whoever has it by then.
            raise OpsError(
                f"istiod-{revision} was released by an earlier version of this project and takes the default tag along when it goes. "
                f"First make the tag an object of its own: `make up STACK={stack.name}` with revision: {revision} in {PROJECT}:mesh. "
                f"Then change it to {wanted}"
            )
        if istiod.get("protect"):
            raise OpsError(
                f"istiod-{revision} is protected, and goes when another revision has taken its place. Set controlPlane of "
                f"{PROJECT}:protection to false, `make up STACK={stack.name}` with revision: {revision} in {PROJECT}:mesh, change it to "
                f"{wanted}, `make up STACK={stack.name}`, and protect again"
            )


def _istiods(deployment: state.Deployment) -> Iterator[tuple[state.Deployment, dict[str, Any]]]:
    """The releases of istiods, and their values."""
    for resource in state.resources(deployment):
        if resource["type"] == RELEASE and state.name(resource["urn"]).startswith("istiod-"):
            values = state.reveal(resource.get("inputs") or {}).get("values") or {}
            if "revision" in values:
                yield resource, values


def left_behind(deployment: state.Deployment) -> list[str]:
    """The URNs of commands that have to restart pods once more: some lack the sidecar of the revision that the state has.

    Pulumi runs such a command when the revision changes. After a change that was cut off and taken back it sees none, and the istiod
    of these pods would go before they do. Quick when there are none; when the cluster does not answer, `up` will tell.
    """
    behind: list[str] = []
    for urn, document in state.requests(deployment, REINJECT):
        try:
            lacking = uninjected(ApiCluster(document["kubeconfig"]), document["namespaces"], document["revision"])
        except KubeError:
            return []
        if lacking:
            print(f"repair: {lacking[0]}{f' and {len(lacking) - 1} more' if lacking[1:] else ''}; to be restarted")
            behind.append(urn)
    return behind
