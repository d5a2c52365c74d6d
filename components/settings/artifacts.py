"""The files that settings name: whether they can be verified, are there, and where machines see them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from actions.cluster import kubeconfig
from components.settings.problems import PROJECT, Problem
from components.settings.stack import Settings
from components.settings.tables import (
    AnyCluster,
    Artifact,
    ClusterSettings,
    ExistingClusterSettings,
    MachinesSettings,
    MeshSettings,
    WorkloadSettings,
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


def _images(
    machines: MachinesSettings, cluster: AnyCluster | None, workloads: Sequence[WorkloadSettings]
) -> Iterator[tuple[str, str]]:
    if machines.image:
        yield f"{PROJECT}:machines.image", machines.image
    pools = cluster.pools if cluster else {}
    own = [(f"{PROJECT}:cluster.{name}.image", pool.image) for name, pool in pools.items()]
    for i, workload in enumerate(workloads):
        own += [(f"{PROJECT}:workloads[{i}].vms[{j}].image", vm.image) for j, vm in enumerate(workload.vms)]
    yield from ((at, image) for at, image in own if image)


def missing_files(settings: Settings) -> list[Problem]:
    """Files and folders the settings name that are not on this machine, and a kubeconfig that is of no use."""
    return missing_in(vars(settings))


def missing_in(tables: Mapping[str, Any]) -> list[Problem]:
    """The same for tables of which some may not be there, because they are not right."""
    machines: MachinesSettings | None = tables.get("machines")
    cluster: AnyCluster | None = tables.get("cluster")
    mesh: MeshSettings | None = tables.get("mesh")
    named: list[tuple[str, str | None]] = []
    if machines and machines.driver is not DriverName.EXISTING:
        named += [(f"{at}.path", artifact.path) for at, artifact in _artifacts(cluster, mesh)]
    if machines:
        named += [(f"{PROJECT}:machines.mounts[{i}].source", m.source) for i, m in enumerate(machines.mounts)]
        named += [(f"{PROJECT}:machines.privateKeyFile", machines.private_key_file)]
    nspawn = machines is not None and machines.driver is DriverName.NSPAWN
    if machines and nspawn:
        images = _images(machines, cluster, tables.get("workloads") or ())
        named += [(at, str(Path(image).expanduser())) for at, image in images]
    if mesh and mesh.charts.directory:
        charts = ("base", "istiod", "gateway")
        named += [(f"{PROJECT}:mesh.charts.directory", f"{mesh.charts.directory}/{chart}") for chart in charts]
    hint = "`make tools` makes the lab's files" if nspawn else "check the path"
    missing = [
        Problem(at, f"{path!r}: does not exist; {hint}") for at, path in named if path and not Path(path).exists()
    ]
    return [*missing, *_unusable_kubeconfig(cluster)]


def _unusable_kubeconfig(cluster: AnyCluster | None) -> Iterator[Problem]:
    if isinstance(cluster, ExistingClusterSettings):
        try:
            kubeconfig.read(cluster.existing.kubeconfig, cluster.existing.context)
        except kubeconfig.KubeconfigError as error:
            yield Problem(f"{PROJECT}:cluster.existing.{error.part}", str(error))
