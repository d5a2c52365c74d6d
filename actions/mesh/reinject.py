"""Restarts what has pods without a sidecar of the mesh's revision, so that pods follow their namespaces to another istiod."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import Field
from typing_extensions import TypedDict

from actions.kube import ApiObject, Cluster, wait
from actions.mesh.injection import Owner, Uninjected, uninjected
from actions.protocol import Deadline, Document, Failure, Progress

REVISION_LABEL = "istio.io/rev"
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
"""The annotation by which `kubectl rollout restart` makes a template another one."""
_SHOWN = 5


class ReinjectRequest(Document):
    """What `reinject` reads.

    Attributes:
        kubeconfig: a kubeconfig's text.
        namespaces: those of the mesh.
        revision: the one whose sidecars their pods are to have.
        timeout_seconds: how long all restarts together may take.
    """

    kubeconfig: str = Field(repr=False)
    namespaces: tuple[str, ...]
    revision: Annotated[str, Field(min_length=1)]
    timeout_seconds: Annotated[float, Field(gt=0)] = 600


class Reinjected(TypedDict):
    """What `reinject` prints: what was restarted, such as `Deployment sample/curl`."""

    restarted: list[str]


def reinject(
    request: ReinjectRequest, cluster: Cluster, progress: Progress, sleep: Callable[[float], None] = time.sleep
) -> Reinjected:
    """Restart, one pod after the other, whatever has pods without their sidecar.

    Raises:
        Failure: some are left, in time or because nothing would make them anew; the message names them.
    """
    restarts = Restarts(request, cluster, progress)
    reason = wait(restarts.look, Deadline(request.timeout_seconds), sleep)
    if reason:
        raise Failure(
            f"{reason}, after {request.timeout_seconds:.0f} s. See why: kubectl describe pods. Then run this again"
        )
    return {"restarted": [str(owner) for owner in restarts.done]}


@dataclass
class Restarts:
    """One run of `reinject`, which may have begun where another one was killed."""

    request: ReinjectRequest
    cluster: Cluster
    progress: Progress
    done: list[Owner] = field(default_factory=list[Owner])

    def look(self) -> str | None:
        """Restart what has to be, each once; why to look again, or None when every pod is right.

        Raises:
            Failure: a restart would not help, or has not helped.
        """
        # Before the pods are listed: those of a template that has been replaced by then are not among them.
        rolling = [reason for owner in self.done if (reason := still_rolling(owner, self.cluster.get(owner.path)))]
        lacking = uninjected(self.cluster, self.request.namespaces, self.request.revision)
        owners = dict.fromkeys(pod.owner for pod in lacking if pod.owner and pod.owner not in self.done)
        todo = [owner for owner in owners if owner.can_restart and not _is_held(self.cluster.get(owner.path))]
        if todo:
            self._see_that_it_helps(lacking)
            for owner in todo:
                self._restart(owner)
            return _told(lacking)
        if rolling:
            return "; ".join(rolling[:_SHOWN])
        if lacking:
            raise Failure(self._why_no_restart_helps(lacking))
        return None

    def _see_that_it_helps(self, lacking: Sequence[Uninjected]) -> None:
        for namespace in sorted({pod.namespace for pod in lacking}):
            found: ApiObject = self.cluster.get(f"/api/v1/namespaces/{namespace}") or {"metadata": {}}
            labels: Mapping[str, str] = found["metadata"].get("labels") or {}
            if (revision := labels.get(REVISION_LABEL)) != self.request.revision:
                raise Failure(
                    f"{_told(lacking)}, and would come up so again: namespace {namespace} is labelled {REVISION_LABEL}="
                    f"{revision or ''}. Put that right: kubectl label --overwrite namespace {namespace} "
                    f"{REVISION_LABEL}={self.request.revision}"
                )

    def _restart(self, owner: Owner) -> None:
        self.progress(f"restarting {owner}")
        annotations = {RESTARTED_AT: datetime.now(UTC).isoformat()}
        self.cluster.patch(owner.path, {"spec": {"template": {"metadata": {"annotations": annotations}}}})
        self.done.append(owner)

    def _why_no_restart_helps(self, lacking: Sequence[Uninjected]) -> str:
        again = [pod for pod in lacking if pod.owner in self.done]
        if again:
            return f"{_told(again)}, though restarted: does an istiod of revision {self.request.revision} serve?"
        return f"{_told(lacking)}, and cannot be restarted: delete it and make it again, or wait for its end. Then `make up`"


def still_rolling(owner: Owner, found: ApiObject | None) -> str | None:
    """What is awaited of an owner until all its pods are of its template and available; None when nothing is."""
    if found is None:
        return None
    spec: ApiObject = found["spec"]
    status: Mapping[str, int] = found.get("status") or {}
    if status.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
        return f"{owner} was not seen by its controller yet"
    if owner.kind == "DaemonSet":
        wanted, updated = status.get("desiredNumberScheduled", 0), status.get("updatedNumberScheduled", 0)
        ready = status.get("numberAvailable", 0)
    else:
        wanted, updated = spec.get("replicas", 1), status.get("updatedReplicas", 0)
        ready = status.get("availableReplicas", 0)
    if updated < wanted or status.get("replicas", 0) > updated or ready < wanted:
        return f"{owner}: {updated} of {wanted} pods are new, {ready} are available"
    return None


def _is_held(found: ApiObject | None) -> bool:
    """Whether its pods stay as they are whatever becomes of its template."""
    if found is None:
        return True
    strategy: Mapping[str, Any] = found["spec"].get("updateStrategy") or {}
    return bool(found["spec"].get("paused")) or strategy.get("type") == "OnDelete"


def _told(pods: Sequence[Uninjected]) -> str:
    shown = "; ".join(map(str, pods[:_SHOWN]))
    return f"{shown}; and {len(pods) - _SHOWN} more" if len(pods) > _SHOWN else shown
