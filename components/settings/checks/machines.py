"""Machines and the cluster on them: names, networks, addresses, hosts."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from components.settings.problems import PROJECT, Problem, duplicates
from components.settings.stack import node_names
from components.settings.tables import AnyCluster, ClusterSettings, MachinesSettings, NodePool, Sizes, WorkloadSettings
from components.settings.values import DriverName

_STACK = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")


def check_stack(stack: str) -> Iterator[Problem]:
    """The stack's name can be the beginning of machine names."""
    if not _STACK.fullmatch(stack):
        yield Problem(
            "stack",
            f"{stack!r}: machine names begin with the stack's name, so it should be a short DNS label such as dev",
        )


def check_machines(
    stack: str,
    machines: MachinesSettings | None,
    cluster: AnyCluster | None,
    workloads: tuple[WorkloadSettings, ...],
) -> Iterator[Problem]:
    """What every machine needs, of the cluster and of workloads alike; None is a table that did not parse."""
    if machines:
        yield from _check_shared(machines)
    if isinstance(cluster, ClusterSettings):
        yield from _check_cluster(cluster)
    yield from _check_cidrs(machines, cluster)
    yield from _check_names(stack, cluster, workloads)
    if machines:
        yield from _check_images(machines, cluster, workloads)
        yield from _check_hosts(machines, cluster, workloads)
        yield from _check_networks(machines, cluster, workloads)


def _check_shared(machines: MachinesSettings) -> Iterator[Problem]:
    at = f"{PROJECT}:machines"
    yield from duplicates(
        ((f"{at}.networks[{i}].name", n.name) for i, n in enumerate(machines.networks)), "this network name"
    )
    for i, network in enumerate(machines.networks):
        if machines.driver is DriverName.NSPAWN and network.cidr is None:
            yield Problem(f"{at}.networks[{i}].cidr", "missing; driver nspawn makes this network and needs its CIDR")
        if machines.driver is not DriverName.NSPAWN and network.cidr is not None:
            yield Problem(
                f"{at}.networks[{i}].cidr",
                f"{network.cidr!r}: driver {machines.driver.value} does not make networks; remove it",
            )
    if machines.driver is DriverName.EXISTING:
        if machines.private_key_file is None:
            yield Problem(f"{at}.privateKeyFile", "missing; driver existing needs the key that opens the hosts")
        if machines.mounts:
            yield Problem(
                f"{at}.mounts", "driver existing cannot mount folders; give artifacts by url, or by path on the hosts"
            )


def _check_images(
    machines: MachinesSettings, cluster: AnyCluster | None, workloads: tuple[WorkloadSettings, ...]
) -> Iterator[Problem]:
    """Every machine that is made has an image: its own, or the one of all."""
    used: list[tuple[str, Sizes]] = []
    used += [(at, pool) for at, pool in _pools(cluster) if pool.size or pool.image]
    for i, workload in enumerate(workloads):
        used += [(f"{PROJECT}:workloads[{i}].vms[{j}]", vm) for j, vm in enumerate(workload.vms)]
    for at, sizes in used:
        if sizes.image is not None and machines.driver is DriverName.EXISTING:
            yield Problem(f"{at}.image", "driver existing boots nothing; remove it")
        if sizes.image is not None and not sizes.image.strip():
            yield Problem(f"{at}.image", "is empty; leave it out for machines.image")
    everyone_has_one = used and all(sizes.image is not None for _, sizes in used)
    if machines.driver is not DriverName.EXISTING and not machines.image and not everyone_has_one:
        yield Problem(
            f"{PROJECT}:machines.image", f"missing; driver {machines.driver.value} needs to know what to boot"
        )


def _check_cluster(cluster: ClusterSettings) -> Iterator[Problem]:
    if cluster.servers.size % 2 == 0:
        yield Problem(
            f"{PROJECT}:cluster.servers.count",
            f"{cluster.servers.size}: should be odd, so that embedded etcd keeps a majority (1, 3, 5)",
        )


def _check_cidrs(machines: MachinesSettings | None, cluster: AnyCluster | None) -> Iterator[Problem]:
    named: list[tuple[str, str]] = []
    if machines:
        named += [(f"{PROJECT}:machines.networks[{i}].cidr", n.cidr) for i, n in enumerate(machines.networks) if n.cidr]
    if isinstance(cluster, ClusterSettings):
        named += [
            (f"{PROJECT}:cluster.podCidr", cluster.pod_cidr),
            (f"{PROJECT}:cluster.serviceCidr", cluster.service_cidr),
        ]
    for i, (path, cidr) in enumerate(named):
        for other_path, other in named[:i]:
            if ipaddress.ip_network(cidr).overlaps(ipaddress.ip_network(other)):
                yield Problem(path, f"{cidr!r}: overlaps {other_path} ({other})")


def _check_names(stack: str, cluster: AnyCluster | None, workloads: tuple[WorkloadSettings, ...]) -> Iterator[Problem]:
    named = [("the cluster's own machines", name) for name, *_ in node_names(cluster)] if cluster else []
    for i, workload in enumerate(workloads):
        named += [(f"{PROJECT}:workloads[{i}].vms[{j}].name", vm.name) for j, vm in enumerate(workload.vms)]
    yield from duplicates(named, "this machine name")
    for path, name in named:
        if len(f"{stack}-{name}") > 60:
            yield Problem(path, f"{name!r}: with the stack's name in front it is longer than a host name may be (60)")


def _check_hosts(
    machines: MachinesSettings, cluster: AnyCluster | None, workloads: tuple[WorkloadSettings, ...]
) -> Iterator[Problem]:
    wanted = machines.driver is DriverName.EXISTING
    given: list[tuple[str, bool]] = []
    if isinstance(cluster, ClusterSettings):
        given += [(f"{PROJECT}:cluster.servers.hosts", bool(cluster.servers.hosts))]
        given += [(f"{PROJECT}:cluster.agents.hosts", bool(cluster.agents.hosts))] if cluster.agents.size else []
    for i, workload in enumerate(workloads):
        given += [
            (f"{PROJECT}:workloads[{i}].vms[{j}].existing", vm.existing is not None)
            for j, vm in enumerate(workload.vms)
        ]
    for path, there in given:
        if there and not wanted:
            yield Problem(path, f"hosts are for driver existing; this stack's driver is {machines.driver.value}")
        if wanted and not there:
            yield Problem(path, "missing; with driver existing every machine names its host and host key")
    if wanted:
        named = [(f"{path}.hosts[{i}]", host) for path, pool in _pools(cluster) for i, host in enumerate(pool.hosts)]
        named += [
            (f"{PROJECT}:workloads[{i}].vms[{j}].existing", vm.existing)
            for i, workload in enumerate(workloads)
            for j, vm in enumerate(workload.vms)
            if vm.existing
        ]
        yield from duplicates(((path, f"{host.host}:{host.port}") for path, host in named), "this host")
    for i, workload in enumerate(workloads):
        if wanted and workload.application == "sample":
            yield Problem(
                f"{PROJECT}:workloads[{i}].application",
                "'sample': is put on machines that the stack makes; hosts of driver existing run their own, so this should be none",
            )


def _pools(cluster: AnyCluster | None) -> list[tuple[str, NodePool]]:
    return [(f"{PROJECT}:cluster.{name}", pool) for name, pool in (cluster.pools if cluster else {}).items()]


def _check_networks(
    machines: MachinesSettings, cluster: AnyCluster | None, workloads: tuple[WorkloadSettings, ...]
) -> Iterator[Problem]:
    known = {n.name for n in machines.networks}
    used = [(f"{PROJECT}:cluster.network", cluster.network)] if cluster else []
    for i, workload in enumerate(workloads):
        used += [(f"{PROJECT}:workloads[{i}].vms[{j}].network", vm.network) for j, vm in enumerate(workload.vms)]
    for path, name in used:
        if name not in known:
            yield Problem(path, f"{name!r}: no such network; machines.networks has {', '.join(sorted(known))}")
