"""k3s on the stack's machines: its own keys, the release that Istio needs, and image archives that nodes can load."""

from __future__ import annotations

from collections.abc import Iterator

from actions.artifacts import file_name
from actions.cluster import k3s_images, k3s_keys, versions
from components.settings.problems import PROJECT, Problem
from components.settings.tables import Artifact, ClusterSettings, MeshSettings, PolicySettings

_AT = f"{PROJECT}:cluster"


def check_k3s(
    cluster: ClusterSettings, mesh: MeshSettings | None, policies: PolicySettings | None
) -> Iterator[Problem]:
    """All of them; None is a table that did not parse."""
    for key, why in k3s_keys.problems(cluster.config):
        yield Problem(f"{_AT}.config.{key}", why)
    if policies and policies.egress_guards and cluster.config.get("disable-network-policy") is True:
        yield Problem(
            f"{_AT}.config.disable-network-policy",
            "policies.egressGuards are network policies, which nobody would enforce; remove it here, or the guards there",
        )
    if mesh:
        yield from _check_release(cluster, mesh)
    for i, image in enumerate(cluster.images):
        yield from _check_archive(f"{_AT}.images[{i}]", image)


def _check_release(cluster: ClusterSettings, mesh: MeshSettings) -> Iterator[Problem]:
    release, oldest = versions.numbers(cluster.version), versions.oldest_for(mesh.version)
    if release and release[:2] < oldest:
        need = ".".join(map(str, oldest))
        yield Problem(
            f"{_AT}.version",
            f"{cluster.version!r}: Istio {mesh.version} (mesh.version) needs Kubernetes {need} or later",
        )


def _check_archive(at: str, image: Artifact) -> Iterator[Problem]:
    found = _suffix(image)
    if found is None:
        yield Problem(
            at, f"{image.path or image.url!r}: nodes cannot load what is called so; archives are {k3s_images.TAKEN}"
        )
    elif image.arm64 and _suffix(image.arm64) != found:
        yield Problem(f"{at}.arm64", f"should be compressed as the other one is, and called *{found}")


def _suffix(image: Artifact) -> str | None:
    return k3s_images.suffix(file_name(image.url or image.path or ""))
