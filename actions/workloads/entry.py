"""What the cluster says about a member: its WorkloadEntry, which istiod makes when the member's sidecar connects.

An entry outlives its member for a while, and a power failure altogether, saying `Healthy=True` all along. So readiness asks who holds the
connection and since when as well. Annotation names are those of Istio's API (`annotation/annotations.gen.go`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from actions.kube import ApiObject, Cluster
from actions.workloads.files import MemberSpec

GROUP_ANNOTATION = "istio.io/autoRegistrationGroup"
CONNECTED_ANNOTATION = "istio.io/connectedAt"
DISCONNECTED_ANNOTATION = "istio.io/disconnectedAt"
CONTROLLER_ANNOTATION = "istio.io/workloadController"
CLOCKS_APART = timedelta(seconds=5)
"""How much the machine's clock may be ahead of istiod's."""
_API = "/apis/networking.istio.io/v1/namespaces"


@dataclass(frozen=True)
class Entry:
    """A member's WorkloadEntry.

    Attributes:
        name: of the entry.
        service_account: whose identity the member has.
        connected_at: when the connection was made; empty while there is none.
        controller: the istiod pod that holds the connection.
        healthy: what the sidecar last reported of the application; None when it has not yet.
        message: the sidecar's reason for not being healthy.
        reported_at: when it reported that.
    """

    name: str
    service_account: str = ""
    connected_at: str = ""
    controller: str = ""
    healthy: bool | None = None
    message: str = ""
    reported_at: str = ""

    def why_cut_off(self, istiods: Mapping[str, datetime]) -> str | None:
        """Why nothing holds the connection that the entry tells of, or None when something does.

        Args:
            istiods: when each istiod pod that there is was last started.
        """
        if self.controller not in istiods:
            return f"its own, pod {self.controller}, is gone"
        if _time(self.connected_at) < istiods[self.controller]:
            return f"its own, pod {self.controller}, was started anew since"
        return None


NO_ENTRY = Entry(name="")
LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Start:
    """The sidecar's last start: what an entry says from before it does not count.

    Attributes:
        at: when it was, for one that was found.
        before: the entry just before it, for one that has just been made: clocks are too coarse then.
    """

    at: datetime = LONG_AGO
    before: Entry = NO_ENTRY

    @classmethod
    def found(cls, running_since: float) -> Self:
        """One that was found; seconds since 1970 by the machine's clock."""
        return cls(at=datetime.fromtimestamp(running_since, UTC) - CLOCKS_APART)

    def precedes_connection(self, entry: Entry) -> bool:
        """Whether the connection in the entry was made since."""
        return entry.connected_at != self.before.connected_at and _time(entry.connected_at) >= self.at

    def precedes_report(self, entry: Entry) -> bool:
        """Whether the health in the entry was reported since."""
        return entry.reported_at != self.before.reported_at and _time(entry.reported_at) >= self.at


def path(namespace: str, name: str = "") -> str:
    """The API path of a namespace's WorkloadEntries, or of one."""
    return f"{_API}/{namespace}/workloadentries" + (f"/{name}" if name else "")


def find(cluster: Cluster, member: MemberSpec) -> Entry | None:
    """The member's entry, found by group, address and network; its name is istiod's own business.

    Of several, which a change of network leaves for seconds, the connected one.
    """
    entries = [parse(found) for found in cluster.items(path(member.namespace)) if _is_of(found, member)]
    return max(entries, key=lambda entry: entry.connected_at, default=None)


def parse(found: ApiObject) -> Entry:
    """Read a WorkloadEntry's JSON."""
    annotations: dict[str, str] = found["metadata"].get("annotations", {})
    conditions: list[dict[str, Any]] = found.get("status", {}).get("conditions", [])
    none: dict[str, Any] = {}
    health = next((c for c in conditions if c.get("type") == "Healthy"), none)
    disconnected = DISCONNECTED_ANNOTATION in annotations
    return Entry(
        name=found["metadata"]["name"],
        service_account=found["spec"].get("serviceAccount", ""),
        connected_at="" if disconnected else annotations.get(CONNECTED_ANNOTATION, ""),
        controller=annotations.get(CONTROLLER_ANNOTATION, ""),
        healthy={"True": True, "False": False}.get(health.get("status", "")),
        message=health.get("message", ""),
        reported_at=health.get("lastProbeTime", ""),
    )


def istiods(pods: Sequence[ApiObject]) -> dict[str, datetime]:
    """When each istiod was last started, by its pod's name."""
    return {
        pod["metadata"]["name"]: max(
            (
                _time(container["state"]["running"]["startedAt"])
                for container in pod.get("status", {}).get("containerStatuses", [])
                if "running" in container["state"]
            ),
            default=LONG_AGO,
        )
        for pod in pods
    }


def not_connected(cluster: Cluster, member: MemberSpec, entry: Entry | None, start: Start) -> str | None:
    """Why the member has no connection to istiod, or None when it has one.

    Args:
        cluster: where to look for the istiod pod that the entry names.
        member: whose entry it is.
        entry: the entry as it is now.
        start: the sidecar's last start; a connection from before does not count.
    """
    if entry is None:
        group = f"{_API}/{member.namespace}/workloadgroups/{member.workload}"
        if cluster.get(group) is None:
            return f"there is no WorkloadGroup {member.namespace}/{member.workload} for the member to register with"
        return f"no WorkloadEntry for {member.address} has appeared: the sidecar has not connected to istiod"
    if not entry.connected_at:
        return f"WorkloadEntry {entry.name} is there, but the sidecar is not connected to istiod"
    if not start.precedes_connection(entry):
        return f"WorkloadEntry {entry.name} still shows a connection from before the sidecar's last start"
    if cluster.get(f"/api/v1/namespaces/{member.istiod_namespace}/pods/{entry.controller}") is None:
        return f"WorkloadEntry {entry.name} names a connection to {entry.controller}, an istiod pod that is gone"
    return None


def is_unreported(entry: Entry, start: Start) -> bool:
    """Whether the entry has no health report from the sidecar's last start."""
    return entry.healthy is None or not start.precedes_report(entry)


def not_healthy(member: MemberSpec, entry: Entry, start: Start) -> str | None:
    """Why a connected member is not ready for traffic, or None when it is; without a probe it always is."""
    if not member.probe:
        return None
    if is_unreported(entry, start):
        return f"WorkloadEntry {entry.name} is connected; its first health report has not come yet"
    if not entry.healthy:
        return f"WorkloadEntry {entry.name} is connected, but its application is not healthy: {entry.message or 'no reason given'}"
    return None


def _time(said: str) -> datetime:
    """A time as Go prints it, with up to nine digits after the second."""
    return datetime.fromisoformat(said) if said else LONG_AGO


def _is_of(found: ApiObject, member: MemberSpec) -> bool:
    group = found["metadata"].get("annotations", {}).get(GROUP_ANNOTATION)
    spec = found["spec"]
    return (
        group == member.workload and spec.get("address") == member.address and spec.get("network", "") == member.network
    )
