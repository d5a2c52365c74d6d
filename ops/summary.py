"""What `make up` prints at its end: the environment as it is now, the proof of traffic, how to get in, where the time went."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from ops.live import Live
from ops.timeline import Link

_PROOFS = {"mutual-tls": "mutual TLS as", "proxied": "through a sidecar"}
_INDENT = (0, 0, 0, 2)


def show(stack: str, outputs: Mapping[str, Any], live: Live, console: Console) -> None:
    """The summary: nodes, gateways, VMs and their health, the proof, how to get in. Made for 80 columns and more."""
    console.print(f"\nstack {stack}", style="bold", highlight=False)
    console.print(Padding(_machines(outputs, live), _INDENT, expand=False))
    for name, vm in outputs["vms"].items():
        console.print(f"  {name} is WorkloadEntry {vm['namespace']}/{vm['workloadEntry']}", highlight=False)
    proof = json.loads(outputs.get("proof") or "[]") if live.proof is None else live.proof
    for line in dict.fromkeys(map(evidence, proof)):
        console.print(f"  {escape(line)}", highlight=False)
    console.print(f"  kubectl: export KUBECONFIG=$(make -s kubeconfig STACK={stack})", highlight=False)
    for vm in outputs["vms"].values():
        console.print(f"  shell:   {vm['ssh']}", highlight=False)
    if live.unreachable:
        console.print(f"[red]the cluster does not answer:[/] {escape(live.unreachable)}", highlight=False)
    for problem in live.problems:
        console.print(f"[red]{escape(problem)}[/]", highlight=False)


def _machines(outputs: Mapping[str, Any], live: Live) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for _ in ("what", "name", "address"):
        table.add_column(no_wrap=True)
    table.add_column("state")
    for name, machine in outputs["machines"].items():
        if name not in outputs["vms"]:
            table.add_row("node", name, machine["address"], _mark(live, live.nodes, name, "Ready"))
    for name, gateway in outputs["gateways"].items():
        ports = ", ".join(f"{key} {port}" for key, port in gateway["ports"].items())
        table.add_row("gateway", name, "\n".join(gateway["addresses"]), ports)
    for name, vm in outputs["vms"].items():
        table.add_row("VM", name, vm["address"], _mark(live, live.members, name, "healthy"))
    return table


def _mark(live: Live, states: Mapping[str, str | None], name: str, word: str) -> str:
    if live.unreachable:
        return "[yellow]not known[/]"
    why = states[name]
    return f"[green]{word}[/]" if why is None else f"[red]not {word}:[/] {escape(why)}"


def evidence(seen: Mapping[str, Any]) -> str:
    """What one call of the proof showed, in two lines; `components.samples.proof.Evidence` has the fields."""
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
