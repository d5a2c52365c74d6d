"""The `kubernetes` provider: its configuration, and which handler serves a resource type."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

from lab.plugins.differences import Difference, Path, compare
from lab.plugins.failures import Failed
from lab.plugins.kubernetes.cluster import Cluster, active_cluster
from lab.plugins.kubernetes.helm import Releases
from lab.plugins.kubernetes.objects import Behaviour, Objects
from lab.plugins.provider import Failures, Handler, Provider, serve
from lab.plugins.values import Properties, Unknown, plain

RELEASE: Final = "kubernetes:helm.sh/v3:Release"
_ELSEWHERE: Final = ("kubernetes:yaml", "kubernetes:helm.sh", "kubernetes:kustomize")
_SETTINGS: Final[Mapping[str, str]] = {
    "deleteUnreachable": "PULUMI_K8S_DELETE_UNREACHABLE",
    "enablePatchForce": "PULUMI_K8S_ENABLE_PATCH_FORCE",
    "upsertExistingObjects": "PULUMI_K8S_UPSERT_EXISTING_OBJECTS",
    "enableConfigMapMutable": "PULUMI_K8S_ENABLE_CONFIGMAP_MUTABLE",
    "enableSecretMutable": "PULUMI_K8S_ENABLE_SECRET_MUTABLE",
}
"""Switches, each also an environment variable as with the official plugin."""
_IGNORABLE: Final = ("suppressDeprecationWarnings", "suppressHelmHookWarnings")
"""They silence warnings that the stand-in does not give."""
_SELECTING: Final = ("kubeconfig", "context", "cluster")
_PLAIN: Final = (*_SELECTING, "clusterIdentifier", "namespace", "version")


class KubernetesProvider(Provider):
    """Serves every kind of a cluster's API, and Helm releases."""

    version = "4.34.2+lab"

    def __init__(self) -> None:
        """Configured by the engine; a default provider may stay on the ambient kubeconfig."""
        super().__init__()
        self._cluster = Cluster()
        self._objects = Objects(self._cluster, Behaviour())
        self._releases = Releases(self._cluster)

    def check_config(self, news: Properties) -> Failures:
        """Settings that would change what happens, and that the stand-in does not have, are errors."""
        supported = {*_PLAIN, *_SETTINGS, *_IGNORABLE, "enableServerSideApply"}
        failures = {name: "is not supported by the lab's stand-in" for name in news if name not in supported}
        if news.get("enableServerSideApply") in (False, "false"):
            failures["enableServerSideApply"] = "the lab's stand-in knows server-side apply only"
        return failures

    def diff_config(self, olds: Properties, news: Properties) -> Difference:
        """Whether the provider now means another cluster, so that everything in it has to be recreated.

        An identifier that is set and stays the same settles it: the same cluster. One that changes: another. Without one, an
        unknown kubeconfig counts as another cluster, a known one by the cluster entry that it selects.
        """
        old, new = plain(olds), plain(news)
        changes = compare(old, new)
        identifier = ("clusterIdentifier",)
        replaces: set[Path] = {path for path in changes if path == identifier and changes[path] == "update"}
        if new.get("clusterIdentifier") and identifier not in changes:
            return Difference(changes)
        unknown: list[Path] = [(key,) for key in _SELECTING if isinstance(new.get(key), Unknown)]
        if unknown:
            replaces.update(unknown[:1])
        elif _moved(old, new):
            replaces.update(path for path in changes if path[0] in _SELECTING)
        return Difference(changes, frozenset(replaces))

    def configure(self, config: Properties) -> None:
        """Take the settings; the cluster is reached only at need."""
        settings = plain(config)
        mutable = {"ConfigMap": "enableConfigMapMutable", "Secret": "enableSecretMutable"}
        self._cluster = Cluster(*(settings.get(name) or "" for name in (*_SELECTING, "namespace")))
        self._objects = Objects(
            self._cluster,
            Behaviour(
                upsert_existing=_switch(settings, "upsertExistingObjects"),
                patch_force=_switch(settings, "enablePatchForce"),
                delete_unreachable=_switch(settings, "deleteUnreachable"),
                mutable=frozenset(kind for kind, name in mutable.items() if _switch(settings, name)),
            ),
        )
        self._releases = Releases(self._cluster)

    def handler(self, type_token: str) -> Handler:
        """The handler of a resource type."""
        if type_token == RELEASE:
            return self._releases
        if type_token.startswith(_ELSEWHERE) or type_token.count(":") != 2:
            raise Failed(f"{type_token} is not supported by the lab's stand-in: see lab/plugins/README.md")
        return self._objects


def _switch(settings: Mapping[str, Any], name: str) -> bool:
    value = settings.get(name)
    if value is None:
        value = os.environ.get(_SETTINGS[name])
    return value in (True, "true")


def _moved(old: Properties, new: Properties) -> bool:
    was, now = (active_cluster(*(settings.get(key) for key in _SELECTING)) for settings in (old, new))
    return was is not None and now is not None and was != now


def main() -> None:
    """Serve the engine that started this process."""
    serve(KubernetesProvider())
