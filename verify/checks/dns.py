"""The DNS proxy on VMs."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from components.mesh.control_plane import NAMESPACE
from components.settings import ClusterSettings
from verify.environment import Environment, Member
from verify.finding import Finding, found

_PROGRAM = (Path(__file__).parent.parent / "resolve.py").read_text()


def run(env: Environment) -> Iterator[Finding]:
    """Names of the mesh resolve to their cluster IPs, others to what the VM's own resolver says, wrong ones not at all."""
    istiod = f"istiod-{env.settings.mesh.revision}"
    services = [(NAMESPACE, istiod), (env.samples, "helloworld")]
    services += [(group[0].workload.namespace, group[0].workload.service) for group in env.groups()]
    mesh = {
        f"{name}.{namespace}.svc": env.service(namespace, name)["spec"]["clusterIP"] for namespace, name in services
    }
    for member in env.members:
        ordinary = _ordinary(env, member)
        wrong = f"nowhere.{env.samples}.svc"
        seen = _resolve(member, [*mesh, *ordinary, wrong])
        yield _compared(f"{member.name}: names of the mesh → cluster IPs", {n: seen[n] for n in mesh}, mesh)
        yield found(
            f"{member.name}: ordinary names still resolve, wrong ones do not",
            f"DNS queries for {', '.join([*ordinary, wrong])}",
            _said({name: seen[name] for name in (*ordinary, wrong)}),
            all(seen[name] and expected in (None, *seen[name]) for name, expected in ordinary.items())
            and not seen[wrong],
        )


def _compared(what: str, seen: dict[str, list[str]], expected: dict[str, str]) -> Finding:
    good = all(seen[name] == [address] for name, address in expected.items())
    return found(what, "DNS queries to the VM's own name server, as the Services' clusterIP says", _said(seen), good)


def _said(seen: dict[str, list[str]]) -> str:
    return ", ".join(f"{name} → {'/'.join(addresses) or 'no such name'}" for name, addresses in seen.items())


def _ordinary(env: Environment, member: Member) -> dict[str, str | None]:
    """Names outside of the mesh with their address where it is known: where the stack downloads from, else its other machines."""
    mesh, cluster = env.settings.mesh, env.settings.cluster
    binary = cluster.binary.url if isinstance(cluster, ClusterSettings) else None
    urls = (mesh.charts.repository, mesh.sidecar_package.url, binary)
    hosts: dict[str, str | None] = {host: None for url in urls if url and (host := urlsplit(url).hostname)}
    others = {name: str(machine["address"]) for name, machine in env.outputs["machines"].items() if name != member.name}
    return hosts or dict(list(others.items())[:2])


def _resolve(member: Member, names: list[str]) -> dict[str, list[str]]:
    return json.loads(member.vm.run(f"python3 -c {shlex.quote(_PROGRAM)} {shlex.join(names)}"))
