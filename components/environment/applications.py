"""From settings to what the mesh knows applications by: their Services and accounts, each once with everyone who needs it."""

from __future__ import annotations

from collections.abc import Iterator

import pulumi

from components.names import Key, formerly
from components.samples.helloworld import PORT, SERVICE, SampleNamespaces, account_names
from components.settings import Settings
from components.workloads.applications import ServiceArgs

_WORKLOAD = "istio-vms:workloads:VmWorkload"
_SAMPLES = "istio-vms:samples:Helloworld"
_TRAFFIC = "istio-vms:mesh:TrafficRouting"


def sample_namespaces(settings: Settings) -> SampleNamespaces | None:
    """Where the samples' pods are; None without samples."""
    if settings.guarded_namespace is None or settings.outside_namespace is None:
        return None
    return SampleNamespaces(settings.samples.namespace, settings.guarded_namespace, settings.outside_namespace)


def services(settings: Settings) -> dict[Key, ServiceArgs]:
    """Those of the samples, of workloads and of traffic; settings have seen to it that whoever shares one agrees on its ports."""
    wanted: dict[Key, ServiceArgs] = {}
    for key, app, ports, pods in _services(settings):
        wanted.setdefault(key, {"app": app, "ports": ports, "pods": pods, "formerly": _former_services(settings, key)})
    return wanted


def accounts(settings: Settings) -> dict[Key, list[pulumi.Alias]]:
    """Those of the samples and of workloads, with what a state may call them."""
    wanted: dict[Key, list[pulumi.Alias]] = {}
    if samples := sample_namespaces(settings):
        for key, former in account_names(samples, settings.samples.helloworld_images).items():
            wanted[key] = [formerly(f"helloworld-{former}", _SAMPLES)]
    for workload in settings.workloads:
        former = f"{workload.namespace}-{workload.name}-account"
        wanted.setdefault((workload.namespace, workload.service_account), []).append(formerly(former, _WORKLOAD))
    return wanted


def _services(settings: Settings) -> Iterator[tuple[Key, str, dict[str, int], bool]]:
    """Each as often as it is wanted: what it is, its app, its ports, and whether there are pods behind it."""
    if settings.samples.enabled:
        yield (settings.samples.namespace, SERVICE), SERVICE, {"http": PORT}, True
    for workload in settings.workloads:
        ports = {port.name: port.port for port in workload.ports}
        yield (workload.namespace, workload.service), workload.service, ports, False
    for traffic in settings.traffic:
        if traffic.app and traffic.port:
            key = (traffic.namespace, traffic.service)
            yield key, traffic.app, {traffic.port.name: traffic.port.port}, False


def _former_services(settings: Settings, key: Key) -> list[pulumi.Alias]:
    """It was made by the samples, by the first of its workloads, or by the traffic that was divided."""
    names = [w.name for w in settings.workloads if (w.namespace, w.service) == key]
    found = [formerly(f"{key[0]}-{name}-service", _WORKLOAD) for name in names]
    if key == (settings.samples.namespace, SERVICE):
        found.append(formerly("helloworld-service", _SAMPLES))
    return [*found, formerly(f"traffic-{'-'.join(key)}-service", _TRAFFIC)]
