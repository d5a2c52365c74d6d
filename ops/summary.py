"""What `make up` prints at its end, and `make status` any time: the environment as it is now."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from components.kube import ApiCluster, ApiObject, KubeError
from components.workloads import entry as workload_entry
from ops.timeline import Link

_PROOFS = {"mutual-tls": "mutual TLS as", "proxied": "through a sidecar"}
_INDENT = (0, 0, 0, 2)


@dataclass(frozen=True)
class Live:
    """What the cluster says right now.

    Attributes:
        nodes: every node that there should be, and whether it is Ready.
        entries: every member, and whether its WorkloadEntry is there and healthy.
        unreachable: why the cluster does not answer; empty when it does.
        problems: what could not be put right.
        proof: evidence of traffic that is newer than the stack's outputs.
    """

    nodes: Mapping[str, bool] = field(default_factory=dict[str, bool])
    entries: Mapping[str, bool] = field(default_factory=dict[str, bool])
    unreachable: str = ""
    problems: Sequence[str] = ()
    proof: Sequence[Mapping[str, Any]] | None = None

    @property
    def healthy(self) -> bool:
        """Every node Ready, every member healthy, and nothing else wrong."""
        well = all(self.nodes.values()) and all(self.entries.values())
        return well and not self.unreachable and not self.problems


def look(outputs: Mapping[str, Any]) -> Live:
    """Ask the cluster for nodes and the members' health; read-only."""
    names = [name for name in outputs["machines"] if name not in outputs["vms"]]
    try:
        cluster = ApiCluster(outputs["kubeconfig"])
        with ThreadPoolExecutor() as pool:
            listed = pool.submit(cluster.items, "/api/v1/nodes")
            found = {name: pool.submit(cluster.get, _entry_path(vm)) for name, vm in outputs["vms"].items()}
        ready = {node["metadata"]["name"]: _ready(node) for node in listed.result()}
        entries = {name: _is_member(entry.result()) for name, entry in found.items()}
    except KubeError as error:
        return Live(unreachable=str(error))
    return Live({name: ready.get(name, False) for name in names}, entries)


def _entry_path(vm: Mapping[str, Any]) -> str:
    return workload_entry.path(vm["namespace"], vm["workloadEntry"])


def _is_member(found: ApiObject | None) -> bool:
    """Healthy and connected: an entry outlives its VM for a while and says Healthy all along."""
    entry = workload_entry.parse(found) if found else None
    return bool(entry and entry.healthy and entry.connected_at)


def _ready(node: ApiObject) -> bool:
    conditions = node.get("status", {}).get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


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
            table.add_row("node", name, machine["address"], _mark(live, live.nodes.get(name), "Ready"))
    for name, gateway in outputs["gateways"].items():
        ports = ", ".join(f"{key} {port}" for key, port in gateway["ports"].items())
        table.add_row("gateway", name, "\n".join(gateway["addresses"]), ports)
    for name, vm in outputs["vms"].items():
        table.add_row("VM", name, vm["address"], _mark(live, live.entries.get(name), "healthy"))
    return table


def _mark(live: Live, good: bool | None, word: str) -> str:
    if live.unreachable:
        return "[yellow]not known[/]"
    return f"[green]{word}[/]" if good else f"[red]not {word}[/]"


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
