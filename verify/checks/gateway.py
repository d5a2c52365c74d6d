"""VMs and the east-west gateway: the addresses and ports it has now are those the VMs use, and istiod answers at every one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

from actions.mesh.addresses import reached_at
from actions.workloads.files import CLUSTER_ENV, ROOT_CERTIFICATE
from components.mesh.control_plane import NAMESPACE
from verify.environment import SIDECAR, Environment
from verify.finding import Finding, found

SERVICE = "istio-eastwestgateway"
_PROGRAM = (Path(__file__).parent.parent / "handshake.py").read_text()


def run(env: Environment) -> Iterator[Finding]:
    """Each VM's files and its open connection lead to where the gateway's Service is now."""
    addresses, port, istiod = _now(env)
    for member in env.members:
        said = member.vm.run(
            f"grep ' {istiod}$' /etc/hosts | cut -d' ' -f1 | paste -sd' '; grep ^CA_ADDR {CLUSTER_ENV}; ss -Htn state established"
        ).splitlines()
        names, ca, *sockets = *said, "", ""
        peers = {words[-1] for line in sockets if (words := line.split())}
        connected = sorted(peer for peer in peers if peer in {f"{address}:{port}" for address in addresses})
        yield found(
            f"{member.name} is connected to the gateway as it is now",
            f"Service {SERVICE}: {', '.join(sorted(addresses))} port {port}; the VM's files and sockets",
            f"{istiod} is {names}; {ca}; connected to {', '.join(connected) or 'nothing there'}",
            set(names.split()) == addresses and f":{port}" in ca and bool(connected),
        )


def addresses(env: Environment) -> Iterator[Finding]:
    """From each VM, past its sidecar: every address of the gateway shows istiod's certificate, which the VM's own root vouches for."""
    listed, port, istiod = _now(env)
    asked = {"addresses": sorted(listed), "port": port, "name": istiod, "roots": ROOT_CERTIFICATE}
    program = f"python3 -c {shlex.quote(_PROGRAM)} {shlex.quote(json.dumps(asked))}"
    for member in env.members:
        seen = json.loads(member.vm.run(f"setpriv --reuid={SIDECAR} --regid=nogroup --clear-groups {program}"))
        said = (f"{address}: {'istiod' if istiod in names else names}" for address, names in seen.items())
        yield found(
            f"{member.name}: istiod answers at every address of the gateway",
            f"TLS to {', '.join(asked['addresses'])} port {port} as {istiod}",
            "; ".join(said) or "the gateway has no address",
            bool(seen) and all(istiod in names for names in seen.values()),
        )


def _now(env: Environment) -> tuple[set[str], int, str]:
    """The gateway's addresses and istiod's port there, and istiod's name."""
    service = env.service(NAMESPACE, SERVICE)
    port = next(port["port"] for port in service["spec"]["ports"] if port["name"] == "tls-istiod")
    return set(reached_at(service)), port, f"istiod-{env.settings.mesh.revision}.{NAMESPACE}.svc"
