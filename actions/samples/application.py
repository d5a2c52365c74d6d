"""The sample application of a virtual machine: `vm_app.py`, and a systemd unit that keeps it running."""

from __future__ import annotations

import re
from pathlib import Path

from actions.machines.cloud_init import File

APPLICATION = Path(__file__).with_name("vm_app.py")
APPLICATION_PATH = "/usr/local/lib/istio-vms/vm_app.py"
APPLICATION_UNIT = "istio-vms-application.service"
FAULT_FILE = "/run/istio-vms/fault"
"""While this file is there the sample application fails, its health probe aside; only root can make it."""

_UNIT = """\
[Unit]
Description=Sample application of istio-vms
After=network.target

[Service]
ExecStart={start}
Restart=always
RestartSec=1s
DynamicUser=yes
CapabilityBoundingSet={capability}
AmbientCapabilities={capability}
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
LockPersonality=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def sample_application(
    service: str, ports: tuple[int, ...], version: str = "v1"
) -> tuple[tuple[File, ...], tuple[str, ...]]:
    """The files and commands that make a machine serve `vm_app.py`.

    Args:
        service: the name it answers with.
        ports: what it listens on, all addresses.
        version: the version it answers with.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]+", service) or not re.fullmatch(r"[A-Za-z0-9._-]+", version):
        raise ValueError(f"{service!r}, {version!r}: a service and its version are letters, digits and ._- only")
    listen = " ".join(f"--port {int(port)}" for port in ports)
    unit = _UNIT.format(
        start=f"/usr/bin/python3 {APPLICATION_PATH} --service {service} --version {version} --fault-file {FAULT_FILE} {listen}",
        capability="CAP_NET_BIND_SERVICE" if any(port < 1024 for port in ports) else "",
    )
    files = (
        File(APPLICATION_PATH, APPLICATION.read_text(encoding="utf-8"), "0755"),
        File(f"/etc/systemd/system/{APPLICATION_UNIT}", unit),
    )
    return files, (f"systemctl daemon-reload\nsystemctl enable --now {APPLICATION_UNIT}",)
