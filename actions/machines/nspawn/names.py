"""The machines' names: one dnsmasq per bridge, as LXD and Multipass have it.

It listens on the bridge's own address, which is its machines' name server. It knows every machine of the bridge's owner
and asks the host's resolvers, those of /etc/resolv.conf, for all other names. Which machines there are is derived from
their records on every call. Callers hold `layout.host_lock`.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address
from pathlib import Path

from actions.machines.nspawn import cgroups, layout, process
from actions.machines.nspawn.record import Lan, Record
from actions.protocol import Failure

GROUP = ".names"
"""The cgroup of them all, which no machine can have: who ends the caller's service does not end them."""


def serve(lan: Lan, records: Collection[Record]) -> None:
    """Answer on a network, whose bridge is there; see that all networks know these machines, and no others.

    Args:
        lan: the network.
        records: every machine of the host, of any owner.

    Raises:
        Failure: dnsmasq does not start, most likely because the host's own name server has the port.
    """
    prune(records)
    if lan.bridge not in served():
        _start(lan)


def prune(records: Collection[Record]) -> None:
    """See that all networks know these machines, and end what answers on networks that have none of them."""
    lans = {record.lan for record in records}
    for lan in lans:
        _publish(lan, records)
    bridges = {lan.bridge for lan in lans}
    for bridge in (served() | {folder.name for folder in layout.NAMES.glob("*")}) - bridges:
        _stop(bridge)
        layout.remove_tree(layout.NAMES / bridge)
    if not lans:
        cgroups.remove(GROUP)
        layout.remove_empty(layout.NAMES)


def served() -> set[str]:
    """The bridges on which a dnsmasq of ours answers."""
    return {bridge for bridge, _ in _processes()}


def pids(bridge: str) -> list[int]:
    """The processes that answer on a bridge: one, or two while it is starting."""
    return [pid for name, pid in _processes() if name == bridge]


def leftovers() -> list[str]:
    """Processes of ours that answer."""
    return [f"process {pid}: dnsmasq on {bridge}" for bridge, pid in _processes()]


def render_hosts(owner: str, records: Iterable[Record]) -> str:
    """The owner's machines on all of its networks, see hosts(5)."""
    own = [record for record in records if record.owner == owner]
    return "".join(f"{record.address} {record.name}\n" for record in sorted(own, key=lambda r: IPv4Address(r.address)))


def arguments(lan: Lan) -> list[str]:
    """The dnsmasq command line. It detaches itself, and returns when it listens; see dnsmasq(8)."""
    return [
        "dnsmasq",
        "--conf-file=/dev/null",
        "--user=dnsmasq",
        "--pid-file=",
        f"--log-facility={layout.NAMES / lan.bridge / 'log'}",
        "--bind-interfaces",
        f"--listen-address={lan.gateway}",
        "--except-interface=lo",
        "--no-hosts",
        # watched: a changed file counts at once; and by this argument our processes are known
        f"--hostsdir={_hosts(lan.bridge)}",
        # what only our machines could have is nobody else's to answer: plain names, private addresses
        "--domain-needed",
        "--bogus-priv",
    ]


def _hosts(bridge: str) -> Path:
    return layout.NAMES / bridge / "hosts"


def _publish(lan: Lan, records: Iterable[Record]) -> None:
    folder = _hosts(lan.bridge)
    for path in (layout.NAMES, folder.parent, folder):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    file, text = folder / "machines", render_hosts(lan.owner, records)
    if not file.exists() or file.read_text() != text:
        layout.write_atomically(file, text, 0o644)


def _start(lan: Lan) -> None:
    # nothing of the caller's environment, which may hold secrets
    env = {"PATH": os.environ.get("PATH", os.defpath)}
    done = subprocess.run(
        arguments(lan), env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise Failure(
            f"no names on network {lan.name}: {done.stderr.strip() or f'dnsmasq ended with {done.returncode}'}; "
            f"see who has port 53 with `ss -lntup`, keep it off {lan.gateway}, then retry"
        )
    groups = cgroups.make(GROUP)
    for pid in pids(lan.bridge):
        with contextlib.suppress(ProcessLookupError):
            for group in groups:
                (group.keeper / "cgroup.procs").write_text(str(pid))


def _stop(bridge: str) -> None:
    # again until there is none: one that is just starting forks
    while found := pids(bridge):
        for pid in found:
            process.end(pid, lambda pid=pid: pid in pids(bridge))


def _processes() -> list[tuple[str, int]]:
    # No pid file: this finds one that is still starting too, and one whose folder is gone.
    ours = re.compile(rf"\0--hostsdir={re.escape(str(layout.NAMES))}/([^/\0]+)/hosts\0")
    found: list[tuple[str, int]] = []
    for comm in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            if comm.read_text() == "dnsmasq\n":
                match = ours.search(comm.with_name("cmdline").read_text(errors="replace"))
                found += [(match[1], int(comm.parent.name))] if match else []
    return found
