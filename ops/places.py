"""Where Kubernetes objects are, and many of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from actions.kube import ApiObject, Cluster

_DEFINITION = ("apiextensions.k8s.io/v1", "CustomResourceDefinition")


@dataclass(frozen=True)
class Place:
    """Where an object is."""

    api_version: str
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        """As people name it."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


class Found:
    """The objects of some places as they are now."""

    def __init__(self, cluster: Cluster, places: Iterable[Place]) -> None:
        """Ask for all of them at once."""
        wanted = list(dict.fromkeys(places))
        with ThreadPoolExecutor(32) as pool:
            versions = list(dict.fromkeys(one.api_version for one in wanted if not _defines(one)))
            kinds = dict(zip(versions, pool.map(lambda version: _kinds(cluster, version), versions), strict=True))
            groups = list(dict.fromkeys(one.name.partition(".")[2] for one in wanted if _defines(one)))
            served = dict(zip(groups, pool.map(lambda group: _served(cluster, group), groups), strict=True))
            self._served = {f"{plural}.{group}" for group, plurals in served.items() for plural in plurals}
            self._paths = {one: path for one in wanted if (path := _path(one, kinds)) is not None}
            # Namespaces are the program's own, so what else is in them is not much; of kinds without, there may be a lot.
            folders = list(dict.fromkeys(folder for folder, name in self._paths.values() if not name))
            lists = pool.map(cluster.items, folders)
            alone = list(dict.fromkeys(f"{folder}/{name}" for folder, name in self._paths.values() if name))
            single = pool.map(cluster.get, alone)
            self._listed = {
                folder: {found["metadata"]["name"]: found for found in items}
                for folder, items in zip(folders, lists, strict=True)
            }
            self._single = dict(zip(alone, single, strict=True))

    def get(self, one: Place) -> ApiObject | None:
        """The object, None when it is not there."""
        if one not in self._paths:
            return None
        folder, name = self._paths[one]
        found = self._single[f"{folder}/{name}"] if name else self._listed[folder].get(one.name)
        # In a list objects do not say what they are.
        return {**found, "apiVersion": one.api_version, "kind": one.kind} if found else None

    def path(self, one: Place) -> str | None:
        """The path of the object, None when the cluster has no such kind."""
        folder, name = self._paths.get(one, ("", ""))
        return f"{folder}/{name or one.name}" if folder else None

    def named(self, one: Place) -> Place:
        """The place without the namespace that its kind does not have."""
        return replace(one, namespace="") if _defines(one) or self._paths.get(one, ("", ""))[1] else one

    def has(self, one: Place) -> bool:
        """Whether it is there. Definitions of kinds are large, and asked for by what they make the API serve."""
        return one.name in self._served if _defines(one) else self.get(one) is not None


def _defines(one: Place) -> bool:
    return (one.api_version, one.kind) == _DEFINITION


def root(api_version: str) -> str:
    """The API path of a group and version."""
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _kinds(cluster: Cluster, api_version: str) -> dict[str, tuple[str, bool]]:
    """For each kind of a group and version its name in paths, and whether it has namespaces."""
    found = (cluster.get(root(api_version)) or {}).get("resources") or []
    return {kind["kind"]: (kind["name"], kind["namespaced"]) for kind in found if "/" not in kind["name"]}


def _served(cluster: Cluster, group: str) -> set[str]:
    """The kinds of a group, as paths name them, whatever their version."""
    versions = (cluster.get(f"/apis/{group}") or {}).get("versions") or []
    return {plural for version in versions for plural, _ in _kinds(cluster, version["groupVersion"]).values()}


def _path(one: Place, kinds: Mapping[str, Mapping[str, tuple[str, bool]]]) -> tuple[str, str] | None:
    """The collection an object is in, and its name there where it is asked for alone; None when the cluster has no such kind."""
    if one.kind not in kinds.get(one.api_version, {}):
        return None
    plural, namespaced = kinds[one.api_version][one.kind]
    top = root(one.api_version)
    return (f"{top}/namespaces/{one.namespace}/{plural}", "") if namespaced else (f"{top}/{plural}", one.name)
