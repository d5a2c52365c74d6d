"""Bridges, the firewall chain between them, and the host's sysctls.

Everything is derived from the machines' records and put right on every call, so a flushed chain or a bridge lost with
a reboot comes back. Callers hold `layout.host_lock`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from actions.machines.nspawn import layout
from actions.machines.nspawn.record import BRIDGE_PREFIX, Lan
from actions.protocol import Failure

CHAIN = "ISTIO-VMS"
SAVED_SYSCTLS = layout.RUN / ".sysctls.json"

SYSCTLS = {
    "net/ipv4/ip_forward": 1,
    # inotify is counted per user, and root is one user on all machines
    "fs/inotify/max_user_instances": 2048,
    "fs/inotify/max_user_watches": 1048576,
}
"""Raised to at least this while there are machines."""

TOUCHED_SYSCTLS = (
    # set by the kubelet (pkg/kubelet/cm, setupKernelTunables); none of them is namespaced
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    # raised by systemd as PID 1 of each machine
    "fs/nr_open",
    "fs/file-max",
)
"""Changed by what runs inside the machines: remembered before the first, restored after the last."""


def setup(lan: Lan, others: Iterable[Lan]) -> None:
    """Make a network beside the others of the host, and put right what all of them share.

    Raises:
        Failure: its range overlaps a route of the host or another network, or iptables does not work.
    """
    _iptables()
    if not _has_address(lan):
        _refuse_overlap(lan)
        _make_bridge(lan)
    _save_sysctls()
    prune({lan, *others})


def prune(lans: Iterable[Lan]) -> None:
    """Remove bridges of ours that are none of these, and let traffic pass between these only."""
    wanted = sorted(set(lans))
    for link in _links():
        if link not in {lan.bridge for lan in wanted}:
            layout.run(["ip", "link", "delete", link])
    _apply_chain(render_rules(wanted))


def remove_port(name: str) -> None:
    """Remove a dead machine's port on a bridge of ours, which the kernel is slower to do than a new boot to want it.

    nspawn calls it `vb-<machine>`, with that as an alternative name where it is too long for an interface.
    """
    shown = subprocess.run(["ip", "-json", "link", "show", f"vb-{name}"], capture_output=True, text=True, check=False)
    if shown.returncode == 0 and str(json.loads(shown.stdout)[0].get("master", "")).startswith(BRIDGE_PREFIX):
        succeeds(["ip", "link", "delete", f"vb-{name}"])  # no error when the kernel was quicker


def teardown() -> None:
    """Remove what `setup` made: bridges, chain, sysctl changes."""
    for link in _links():
        layout.run(["ip", "link", "delete", link])
    iptables = _iptables()
    while succeeds([iptables, "-w", "-C", "FORWARD", "-j", CHAIN]):
        layout.run([iptables, "-w", "-D", "FORWARD", "-j", CHAIN])
    if succeeds([iptables, "-w", "-S", CHAIN]):
        layout.run([iptables, "-w", "-F", CHAIN])
        layout.run([iptables, "-w", "-X", CHAIN])
    _restore_sysctls()


def leftovers() -> list[str]:
    """Bridges and chains of ours that are there."""
    chains = [
        f"chain {CHAIN} ({tool})"
        for tool in ("iptables-legacy", "iptables-nft")
        if shutil.which(tool) and succeeds([tool, "-w", "-S", CHAIN])
    ]
    return [f"bridge {link}" for link in _links()] + chains


def render_rules(lans: Sequence[Lan]) -> list[str]:
    """The chain, as `iptables -S` prints it.

    Within a bridge everything passes. Between bridges of one owner the machines' own addresses pass, both ways, and
    nothing else: a pod's address is not routed by the host. Whatever else comes from or goes to a machine is dropped.
    """
    rules = [f"-N {CHAIN}"]
    for lan in lans:
        rules.append(f"-A {CHAIN} -i {lan.bridge} -o {lan.bridge} -j ACCEPT")
    for one in lans:
        for other in lans:
            if one != other and one.owner == other.owner:
                pair = f"-s {one.cidr} -d {other.cidr} -i {one.bridge} -o {other.bridge}"
                rules.append(f"-A {CHAIN} {pair} -j ACCEPT")
    for lan in lans:
        rules += [f"-A {CHAIN} -i {lan.bridge} -j DROP", f"-A {CHAIN} -o {lan.bridge} -j DROP"]
    return rules


def overlapping(lan: Lan, routes: Iterable[Mapping[str, Any]]) -> str | None:
    """The first route that the range overlaps, in words; default routes and those of its own bridge do not count.

    Args:
        lan: the network to place.
        routes: what `ip -json -4 route show table all` prints.
    """
    for route in routes:
        destination, device = str(route.get("dst", "")), str(route.get("dev", ""))
        if destination == "default" or device == lan.bridge or route.get("type") in ("broadcast", "multicast"):
            continue
        try:
            network = ipaddress.IPv4Network(destination)
        except ValueError:
            continue
        if network.overlaps(lan.network):
            return f"{destination} on {device or 'this host'}"
    return None


def _refuse_overlap(lan: Lan) -> None:
    routes = json.loads(layout.run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]")
    if clash := overlapping(lan, routes):
        raise Failure(
            f"network {lan.name} of {lan.owner}: {lan.cidr} overlaps the host's route {clash}: choose another CIDR"
        )


def _make_bridge(lan: Lan) -> None:
    # a fixed MAC: by default a bridge takes its lowest port's and changes it as machines come and go
    digest = hashlib.sha256(lan.bridge.encode()).hexdigest()
    mac = ":".join(["02", *(digest[i : i + 2] for i in range(0, 10, 2))])
    if not Path(f"/sys/class/net/{lan.bridge}").exists():
        layout.run(["ip", "link", "add", lan.bridge, "address", mac, "type", "bridge"])
    interface = f"{lan.gateway}/{lan.network.prefixlen}"
    layout.run(["ip", "address", "replace", interface, "broadcast", "+", "dev", lan.bridge])
    layout.run(["ip", "link", "set", lan.bridge, "up"])


def _has_address(lan: Lan) -> bool:
    if not Path(f"/sys/class/net/{lan.bridge}").exists():
        return False
    shown = json.loads(layout.run(["ip", "-json", "-4", "address", "show", "dev", lan.bridge, "up"]) or "[]")
    return any(info.get("local") == str(lan.gateway) for link in shown for info in link.get("addr_info", ()))


def _links() -> list[str]:
    return sorted(path.name for path in Path("/sys/class/net").glob(f"{BRIDGE_PREFIX}*"))


def _apply_chain(rules: Sequence[str]) -> None:
    iptables = _iptables()
    listed = subprocess.run([iptables, "-w", "-S", CHAIN], capture_output=True, text=True, check=False).stdout
    if listed.split("\n")[:-1] != list(rules):
        # declaring a chain that exists flushes it; the table is replaced in one step
        body = "\n".join(["*filter", f":{CHAIN} - [0:0]", *rules[1:], "COMMIT", ""])
        layout.run([f"{iptables}-restore", "-w", "--noflush"], stdin=body)
    first = next((line for line in layout.run([iptables, "-w", "-S", "FORWARD"]).splitlines() if "-A" in line), "")
    if first != f"-A FORWARD -j {CHAIN}":
        while succeeds([iptables, "-w", "-D", "FORWARD", "-j", CHAIN]):
            pass
        layout.run([iptables, "-w", "-I", "FORWARD", "1", "-j", CHAIN])


def _iptables() -> str:
    """The host's own choice first: nft and legacy rules are separate worlds, and the host's other rules are in one."""
    for tool in ("iptables", "iptables-nft", "iptables-legacy"):
        if shutil.which(tool) and succeeds([tool, "-w", "-S", "FORWARD"]):
            return tool
    raise Failure("iptables does not work here: apt-get install iptables, or use STACK=dev (multipass)")


def succeeds(command: Sequence[str]) -> bool:
    """Whether a host command ends well."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _save_sysctls() -> None:
    if not SAVED_SYSCTLS.exists():
        saved = {name: text for name in (*SYSCTLS, *TOUCHED_SYSCTLS) if (text := _sysctl(name)) is not None}
        layout.write_atomically(SAVED_SYSCTLS, json.dumps(saved, indent=1))
    for name, least in SYSCTLS.items():
        current = _sysctl(name)
        if current is not None and int(current) < least:
            Path("/proc/sys", name).write_text(str(least))


def _restore_sysctls() -> None:
    if not SAVED_SYSCTLS.exists():
        return
    for name, text in json.loads(SAVED_SYSCTLS.read_text()).items():
        if _sysctl(name) != text:
            Path("/proc/sys", name).write_text(text)
    SAVED_SYSCTLS.unlink()


def _sysctl(name: str) -> str | None:
    path = Path("/proc/sys", name)
    return path.read_text().strip() if path.exists() else None
