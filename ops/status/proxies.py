"""The proxies that are connected to the mesh's istiods, and whether they have taken over what these sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from actions.kube import ApiObject, Cluster
from actions.protocol import Failure
from ops.live import ISTIOD_PODS
from ops.status.model import Proxy

REVISION = "istio.io/rev"
SYNC_SECONDS = 5
TAKEN_OVER_SECONDS = 1.0
"""How long a proxy may take for what istiod sent; one that refuses it never does."""
SYNCZ = ("pilot-discovery", "request", "GET", "/debug/syncz")
SYNC_TYPES = {"CDS": "cluster", "LDS": "listener", "EDS": "endpoint", "RDS": "route"}
"""Envoy's names for what istiod sends, and the fields' of `SyncStatus` in Istio's pilot/pkg/xds/debug.go."""


def connected(cluster: Cluster, sleep: Callable[[float], None] = time.sleep) -> dict[str, Proxy]:
    """Every proxy that is connected to an istiod, by its id. What is out of step for a moment only, as after any change, is not told.

    Raises:
        Failure: an istiod does not say.
    """
    first = _asked(cluster)
    if not any(_stale(proxy) for _, proxy in first.values()):
        return {name: Proxy(revision, _sync(proxy, {})) for name, (revision, proxy) in first.items()}
    sleep(TAKEN_OVER_SECONDS)
    again = _asked(cluster)
    before = {name: proxy for name, (_, proxy) in first.items()}
    return {name: Proxy(revision, _sync(proxy, before.get(name, {}))) for name, (revision, proxy) in again.items()}


def _asked(cluster: Cluster) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """For each proxy the revision of its istiod and what that says."""
    pods = [pod for pod in cluster.items(*ISTIOD_PODS) if pod.get("status", {}).get("phase") == "Running"]
    with ThreadPoolExecutor(max(1, len(pods))) as pool:
        answers = pool.map(lambda pod: _syncz(cluster, pod), pods)
        return {
            proxy["proxy"]: ((pod["metadata"].get("labels") or {}).get(REVISION, "default"), proxy)
            for pod, answer in zip(pods, answers, strict=True)
            for proxy in answer
        }


def _syncz(cluster: Cluster, pod: ApiObject) -> Sequence[Mapping[str, Any]]:
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    ran = cluster.run(namespace, name, "discovery", SYNCZ, SYNC_SECONDS)
    try:
        return json.loads(ran.stdout)
    except ValueError:
        said = ran.stderr.strip() or ran.stdout.strip() or "nothing"
        raise Failure(f"pod {name} does not tell of its proxies; it says: {said}") from None


def _stale(proxy: Mapping[str, Any]) -> set[str]:
    """The nonces that were sent and not taken over, by type."""
    return {f"{field} {proxy[f'{field}_sent']}" for field in SYNC_TYPES.values() if _agreement(proxy, field) == "STALE"}


def _sync(proxy: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, str]:
    """How each type agrees: what is out of step counts when it was already before."""
    old = _stale(before)
    found = {name: _agreement(proxy, field) for name, field in SYNC_TYPES.items()}
    return {
        name: "SYNCED" if state == "STALE" and f"{field} {proxy[f'{field}_sent']}" not in old else state
        for (name, state), field in zip(found.items(), SYNC_TYPES.values(), strict=True)
    }


def _agreement(proxy: Mapping[str, Any], field: str) -> str:
    """As `istioctl proxy-status` has it: by the nonces of what was sent last and of what was taken over last."""
    sent, acknowledged = proxy.get(f"{field}_sent", ""), proxy.get(f"{field}_acked", "")
    if not sent:
        return "NOT SENT"
    return "SYNCED" if sent == acknowledged else "STALE"
