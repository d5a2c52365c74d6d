"""What `make up` prints at its end: the environment as it is now, the proof of traffic, how to get in, where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from ops import finding
from ops.finding import Finding
from ops.proof import Proof
from ops.status.model import NotKnown, Status
from ops.status.view import UNKNOWN
from ops.timeline import Link

_PROOFS = {"mutual-tls": "mutual TLS as", "proxied": "through a sidecar"}
_INDENT = (0, 0, 0, 2)


def show(
    outputs: Mapping[str, Any], status: Status, proof: Proof, findings: Sequence[Finding], console: Console
) -> None:
    """The summary: nodes, gateways, VMs and their health, the proof, how to get in, what is not well. Made for 80 columns and more."""
    console.print(f"\nstack {status.stack}", style="bold", highlight=False)
    console.print(Padding(_machines(outputs, status), _INDENT, expand=False))
    for name, vm in outputs["vms"].items():
        console.print(f"  {name} is WorkloadEntry {vm['namespace']}/{vm['workloadEntry']}", highlight=False)
    if proof.at:
        console.print(f"  proved at {proof.at.astimezone():%H:%M:%S}:", highlight=False)
    for line in dict.fromkeys(map(evidence, proof.seen)):
        console.print(f"  {escape(line)}", highlight=False)
    console.print(f"  kubectl: export KUBECONFIG=$(make -s kubeconfig STACK={status.stack})", highlight=False)
    for vm in outputs["vms"].values():
        console.print(f"  shell:   {vm['ssh']}", highlight=False)
    finding.show(findings, console)


def _machines(outputs: Mapping[str, Any], status: Status) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in ("what", "name", "address"):
        table.add_column(no_wrap=True)
    table.add_column("state")
    states = status.nodes if isinstance(status.nodes, NotKnown) else {node.name: node for node in status.nodes}
    for name, machine in outputs["machines"].items():
        if name not in outputs["vms"]:
            why = states if isinstance(states, NotKnown) else states[name].problem
            table.add_row("node", name, machine["address"], _mark(why, "Ready"))
    if isinstance(status.gateways, NotKnown):
        table.add_row("gateways", "", "", UNKNOWN)
    else:
        for gateway in status.gateways:
            ports = ", ".join(f"{key} {port}" for key, port in gateway.ports.items())
            table.add_row("gateway", gateway.name, "\n".join(gateway.addresses) or "[red]none[/]", ports)
    for member in status.members:
        table.add_row(
            "VM", member.name, outputs["vms"][member.name]["address"], _mark(member.problem, "healthy", "not healthy: ")
        )
    return table


def _mark(why: str | NotKnown | None, well: str, amiss: str = "") -> str:
    if isinstance(why, NotKnown):
        return UNKNOWN
    return f"[green]{well}[/]" if why is None else f"[red]{amiss}[/]{escape(why)}"


def evidence(seen: Mapping[str, Any]) -> str:
    """What one call of the proof showed, in two lines; `actions.samples.proof.Evidence` has the fields."""
    how = f"{_PROOFS[seen['proof']]} {seen['client_identity'] or ''}".rstrip()
    where = f" on {seen['instance']}" if seen.get("instance") else ""
    return f"{seen['source']} → {seen['url']}{where}:\n    {seen['status']}, {how}"


def show_chain(chain: Sequence[Link], seconds: float, console: Console) -> None:
    """Where the time went."""
    if not chain:
        console.print(f"  {seconds:.1f} s; nothing changed in the state", highlight=False)
        return
    listed = " → ".join(f"{link.name} {link.seconds:.1f}" for link in chain if link.seconds >= 0.1)
    text = f"{seconds:.1f} s; the longest chain (seconds): {listed}"
    console.print(Padding(text, _INDENT, expand=False), highlight=False, soft_wrap=False)
