"""Policies and telemetry: what they name exists, and none of them keeps `up` from proving traffic."""

from __future__ import annotations

from collections.abc import Iterator

from components.settings.checks.references import check_app, check_namespace, listed
from components.settings.problems import PROJECT, Problem, duplicates
from components.settings.registry import CLIENT, HELLOWORLD, Registry
from components.settings.tables import (
    AuthorizationSettings,
    EgressGuardSettings,
    PolicySettings,
    TelemetrySettings,
    WorkloadSettings,
)

_AT = f"{PROJECT}:policies"


def check_policies(policies: PolicySettings, registry: Registry) -> Iterator[Problem]:
    """Mutual TLS, authorization and egress guards."""
    for namespace in policies.namespace_mtls:
        yield from check_namespace(f"{_AT}.namespaceMtls.{namespace}", namespace, registry)
    yield from _check_authorization(policies.authorization, registry)
    yield from _check_callers_of_the_proof(policies.authorization, registry)
    yield from _check_egress_guards(policies.egress_guards, registry)


def _check_authorization(policies: tuple[AuthorizationSettings, ...], registry: Registry) -> Iterator[Problem]:
    at = f"{_AT}.authorization"
    yield from duplicates(
        ((f"{at}[{i}].name", f"{policy.namespace}/{policy.name}") for i, policy in enumerate(policies)), "this policy"
    )
    for i, policy in enumerate(policies):
        yield from check_namespace(f"{at}[{i}].namespace", policy.namespace, registry)
        yield from check_app(f"{at}[{i}].app", policy.namespace, policy.app, registry)


def _check_callers_of_the_proof(policies: tuple[AuthorizationSettings, ...], registry: Registry) -> Iterator[Problem]:
    """Policies of one app add up: it is enough that one of them admits the caller."""
    for namespace, app, caller in dict.fromkeys(_calls_of_the_proof(registry)):
        of_app = {i: policy for i, policy in enumerate(policies) if (policy.namespace, policy.app) == (namespace, app)}
        if of_app and not any(caller in policy.allow for policy in of_app.values()):
            first = min(of_app)
            yield Problem(
                f"{_AT}.authorization[{first}].allow",
                f"{list(of_app[first].allow)}: should have {caller}, which calls {app} in namespace {namespace} when "
                "`up` proves traffic",
            )


def _calls_of_the_proof(registry: Registry) -> Iterator[tuple[str, str, str]]:
    """What `up` ends with: (namespace, app, account that calls it)."""
    samples = registry.samples.namespace
    for workload in registry.proven():
        yield workload.namespace, workload.service, f"{samples}/{CLIENT}"
        yield samples, HELLOWORLD, f"{workload.namespace}/{workload.service_account}"


def _check_egress_guards(guards: tuple[EgressGuardSettings, ...], registry: Registry) -> Iterator[Problem]:
    at = f"{_AT}.egressGuards"
    # Two NetworkPolicies of a namespace add up to what either one allows, so that neither would guard.
    yield from duplicates(
        ((f"{at}[{i}].namespace", guard.namespace) for i, guard in enumerate(guards)), "this guarded namespace"
    )
    workloads = {_path(workload) for workload in registry.workloads}
    for i, guard in enumerate(guards):
        yield from check_namespace(f"{at}[{i}].namespace", guard.namespace, registry)
        for j, name in enumerate(guard.workloads):
            if name not in workloads:
                yield Problem(f"{at}[{i}].workloads[{j}]", f"{name!r}: no such workload; there is {listed(workloads)}")
        called = [w for w in map(_path, registry.proven()) if not guard.workloads or w in guard.workloads]
        if called and guard.namespace == registry.samples.namespace:
            yield Problem(
                f"{at}[{i}].namespace",
                f"{guard.namespace!r}: should be another one: `up` proves traffic with calls from there to the VMs of "
                f"{listed(called)}",
            )


def _path(workload: WorkloadSettings) -> str:
    return f"{workload.namespace}/{workload.name}"


def check_telemetry(telemetry: TelemetrySettings, registry: Registry) -> Iterator[Problem]:
    """Namespaces are given where logs are of namespaces, and nowhere else."""
    at = f"{PROJECT}:telemetry.namespaces"
    if telemetry.access_logs == "namespaces" and not telemetry.namespaces:
        yield Problem(at, "missing; with accessLogs: namespaces they have to be named")
    if telemetry.access_logs != "namespaces" and telemetry.namespaces:
        yield Problem(
            at,
            f"{list(telemetry.namespaces)}: count with accessLogs: namespaces only, and it is {telemetry.access_logs}; "
            "remove them or change it",
        )
    yield from duplicates(((f"{at}[{i}]", name) for i, name in enumerate(telemetry.namespaces)), "this namespace")
    for i, namespace in enumerate(telemetry.namespaces):
        yield from check_namespace(f"{at}[{i}]", namespace, registry)
