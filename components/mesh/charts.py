"""Where an Istio chart comes from, and how it is released."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import pulumi
import pulumi_kubernetes as kubernetes

RELEASE_SECONDS = 300


@dataclass(frozen=True)
class Charts:
    """Istio's Helm charts: a folder with one chart per sub-folder, or a repository (https:// or oci://) with a version."""

    version: str
    directory: str | None = None
    repository: str | None = None

    def release(
        self,
        chart: str,
        name: str,
        namespace: pulumi.Input[str],
        values: Mapping[str, Any],
        opts: pulumi.ResourceOptions,
    ) -> kubernetes.helm.v3.Release:
        """One Helm release.

        `helm.v3.Release` and not `helm.v4.Chart`: it previews without a cluster, and istiod's charts rely on Helm's own upgrade.
        """
        return kubernetes.helm.v3.Release(
            name,
            name=name,
            namespace=namespace,
            values=values,
            timeout=RELEASE_SECONDS,
            opts=opts,
            **self._source(chart),
        )

    def _source(self, chart: str) -> dict[str, Any]:
        if self.directory:
            return {"chart": f"{self.directory}/{chart}"}
        if self.repository and self.repository.startswith("oci://"):
            return {"chart": f"{self.repository}/{chart}", "version": self.version}
        return {
            "chart": chart,
            "version": self.version,
            "repository_opts": kubernetes.helm.v3.RepositoryOptsArgs(repo=self.repository),
        }


def merged(defaults: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Helm's own rule: tables merge key by key, anything else replaces."""
    result = dict(defaults)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            result[key] = merged(cast("Mapping[str, Any]", below), cast("Mapping[str, Any]", value))
        else:
            result[key] = value
    return result
