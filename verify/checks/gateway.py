"""VMs and the east-west gateway: the addresses and ports it has now are those the VMs use."""

from __future__ import annotations

from collections.abc import Iterator

from components.mesh.addresses import reached_at
from components.mesh.control_plane import NAMESPACE
from components.workloads.files import CLUSTER_ENV
from verify.environment import Environment
from verify.finding import Finding, found

SERVICE = "istio-eastwestgateway"


def run(env: Environment) -> Iterator[Finding]:
    """Each VM's files and its open connection lead to where the gateway's Service is now."""
    service = env.service(NAMESPACE, SERVICE)
    addresses = set(reached_at(service))
    port = next(port["port"] for port in service["spec"]["ports"] if port["name"] == "tls-istiod")
    istiod = f"istiod-{env.settings.mesh.revision}.{NAMESPACE}.svc"
    for member in env.members:
        said = member.vm.run(
            f"grep ' {istiod}$' /etc/hosts | cut -d' ' -f1; grep ^CA_ADDR {CLUSTER_ENV}; ss -Htn state established"
        ).splitlines()
        name, ca, *sockets = *said, "", ""
        peers = {words[-1] for line in sockets if (words := line.split())}
        connected = sorted(peer for peer in peers if peer in {f"{address}:{port}" for address in addresses})
        yield found(
            f"{member.name} is connected to the gateway as it is now",
            f"Service {SERVICE}: {', '.join(sorted(addresses))} port {port}; the VM's files and sockets",
            f"{istiod} is {name}; {ca}; connected to {', '.join(connected) or 'nothing there'}",
            name in addresses and f":{port}" in ca and bool(connected),
        )
