"""One module for each kind of promise; `CHECKS` in the order they are run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from verify.checks import (
    access,
    dns,
    gateway,
    health,
    identity,
    injection,
    membership,
    networks,
    registration,
    spread,
    standing,
    telemetry,
    traffic,
)
from verify.environment import Environment
from verify.finding import Finding


@dataclass(frozen=True)
class Check:
    """A promise and what shows it.

    Attributes:
        name: a word for the command line.
        title: the promise.
        run: yields findings; may raise `Failure`, which is a finding too. It puts back what it disturbs, however it ends.
        disturbs: what is out of service for seconds meanwhile; empty for a check that only calls and reads.
    """

    name: str
    title: str
    run: Callable[[Environment], Iterator[Finding]]
    disturbs: str = ""


CHECKS = (
    Check("membership", "Every VM is a member of its workload and answers for it", membership.run),
    Check("state", "Cluster, machines and VMs are what the stack's state says", standing.run),
    Check("injection", "Every pod of the mesh has its sidecar", injection.run),
    Check("dns", "VMs resolve the mesh's names, and all others as before", dns.run),
    Check("vm-to-mesh", "VMs call services of the mesh by name", membership.vm_to_mesh),
    Check("mesh-to-vm", "Pods call VMs by name, as authenticated peers", membership.mesh_to_vm),
    Check("networks", "VMs reach pods the way their network says", networks.run),
    Check("gateway", "VMs follow the east-west gateway", gateway.run),
    Check("addresses", "Istiod answers at every address of the gateway", gateway.addresses),
    Check("mtls", "Plaintext is refused where mutual TLS is STRICT", access.mtls),
    Check("authorization", "Only admitted accounts get through", access.authorization),
    Check("exposure", "The east-west gateway leads only to exposed services", access.exposure),
    Check("egress-guard", "Guarded namespaces cannot reach the VMs", access.egress_guard),
    Check("telemetry", "A request leaves its line in the access logs", telemetry.run),
    Check("routing", "Calls are shared out between versions on pods and VMs", traffic.routing),
    Check("resilience", "Retries and outlier detection hide a failing VM", traffic.resilience, "one VM answers 503"),
    Check(
        "spread", "One Service over pods and VMs outlives either side", spread.run, "a VM's application; sample pods"
    ),
    Check("health", "A VM whose application is down gets no traffic", health.run, "a VM's application"),
    Check("registration", "A VM that leaves loses its entry, and gets it back", registration.run, "a VM's sidecar"),
    Check("identity", "Identity outlives token and certificate", identity.run, "a VM's sidecar"),
)
