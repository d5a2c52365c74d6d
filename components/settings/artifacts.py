"""The files that settings name: whether they can be verified, are there, and where machines see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from components.cluster import kubeconfig
from components.settings.problems import PROJECT, Problem
from components.settings.stack import Settings
from components.settings.tables import (
    AnyCluster,
    Artifact,
    ClusterSettings,
    ExistingClusterSettings,
    MachinesSettings,
    MeshSettings,
)
from components.settings.values import DriverName


def _artifacts(cluster: AnyCluster | None, mesh: MeshSettings | None) -> Iterator[tuple[str, Artifact]]:
    named: list[tuple[str, Artifact | None]] = []
    if isinstance(cluster, ClusterSettings):
        named += [(f"{PROJECT}:cluster.binary", cluster.binary), (f"{PROJECT}:cluster.tools", cluster.tools)]
        named += [(f"{PROJECT}:cluster.images[{i}]", image) for i, image in enumerate(cluster.images)]
    if mesh:
        named += [(f"{PROJECT}:mesh.sidecarPackage", mesh.sidecar_package)]
    for path, artifact in named:
        while artifact:
            yield path, artifact
            path, artifact = f"{path}.arm64", artifact.arm64


def machine_path(machines: MachinesSettings, path: str) -> str | None:
    """Where a file of the operator's machine is seen on every machine, or None when no mount covers it.

    Existing hosts have what their owner put there: the path is theirs.
    """
    if machines.driver is DriverName.EXISTING:
        return path
    for mount in machines.mounts:
        if Path(path).is_relative_to(mount.source):
            return str(Path(mount.target) / Path(path).relative_to(mount.source))
    return None


def check_artifacts(
    machines: MachinesSettings, cluster: AnyCluster | None, mesh: MeshSettings | None
) -> Iterator[Problem]:
    """Each artifact comes from one place, can be verified, and can be seen by machines."""
    for at, artifact in _artifacts(cluster, mesh):
        if (artifact.url is None) == (artifact.path is None):
            yield Problem(at, "should have either url or path")
        if artifact.url and (artifact.sha256 is None) == (artifact.checksums is None):
            yield Problem(at, "a url should come with either sha256 or checksums, so that what is fetched is verified")
        if artifact.path and (artifact.sha256 or artifact.checksums):
            yield Problem(at, "a path is verified by the SHA256SUMS beside it; remove sha256 and checksums")
        if artifact.path and machine_path(machines, artifact.path) is None:
            yield Problem(
                f"{at}.path", f"{artifact.path!r}: is under none of machines.mounts, so no machine can see it"
            )


def _images(settings: Settings) -> Iterator[tuple[str, str]]:
    if settings.machines.image:
        yield f"{PROJECT}:machines.image", settings.machines.image
    own = [(f"{PROJECT}:cluster.{name}.image", pool.image) for name, pool in settings.cluster.pools.items()]
    for i, workload in enumerate(settings.workloads):
        own += [(f"{PROJECT}:workloads[{i}].vms[{j}].image", vm.image) for j, vm in enumerate(workload.vms)]
    yield from ((at, image) for at, image in own if image)


def missing_files(settings: Settings) -> list[Problem]:
    """Files and folders the settings name that are not on this machine, and a kubeconfig that is of no use."""
    on_hosts = settings.machines.driver is DriverName.EXISTING
    artifacts = () if on_hosts else _artifacts(settings.cluster, settings.mesh)
    named = [(f"{at}.path", artifact.path) for at, artifact in artifacts]
    named += [(f"{PROJECT}:machines.mounts[{i}].source", m.source) for i, m in enumerate(settings.machines.mounts)]
    named += [(f"{PROJECT}:machines.privateKeyFile", settings.machines.private_key_file)]
    if settings.machines.driver is DriverName.NSPAWN:
        named += [(at, str(Path(image).expanduser())) for at, image in _images(settings)]
    if settings.mesh.charts.directory:
        charts = ("base", "istiod", "gateway")
        named += [(f"{PROJECT}:mesh.charts.directory", f"{settings.mesh.charts.directory}/{chart}") for chart in charts]
    hint = "`make tools` makes the lab's files" if settings.machines.driver is DriverName.NSPAWN else "check the path"
    missing = [
        Problem(at, f"{path!r}: does not exist; {hint}") for at, path in named if path and not Path(path).exists()
    ]
    return [*missing, *_unusable_kubeconfig(settings.cluster)]


def _unusable_kubeconfig(cluster: AnyCluster) -> Iterator[Problem]:
    if isinstance(cluster, ExistingClusterSettings):
        try:
            kubeconfig.read(cluster.existing.kubeconfig, cluster.existing.context)
        except kubeconfig.KubeconfigError as error:
            yield Problem(f"{PROJECT}:cluster.existing.{error.part}", str(error))
