"""What is run on an existing host, in a folder that stands for its root, with stand-ins for the package manager."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from actions.machines import on_host
from actions.machines.nspawn import layout

OWNER = {"owner": "istio-vms/prod", "name": "prod-vm-1"}
# A package is a file; one named in `needed` is refused, as dpkg does for what others depend on.
TOOLS = {
    "dpkg-query": 'for name; do [ ! -e "$PACKAGES/$name" ] || echo "$name installed"; done\nexit 1\n',
    "dpkg": """shift; failed=0; rmdir "$PACKAGES/../root/usr/local/bin" 2>/dev/null
for name; do
  if grep -qx "$name" "$PACKAGES/../needed" 2>/dev/null; then failed=1; else rm "$PACKAGES/$name"; fi
done
exit $failed
""",
    "apt-mark": 'cat "$PACKAGES/../manual" 2>/dev/null; exit 0\n',
    "systemctl": 'echo "$*" >>"$PACKAGES/../systemctl"\n',
}


class Host:
    def __init__(self, folder: Path) -> None:
        self.folder, self.root, self.packages = folder, folder / "root", folder / "packages"
        for path in (
            self.root / "etc",
            self.root / "run",
            self.root / "var/lib",
            self.root / "var/log",
            self.root / "usr/local/bin",
            self.packages,
            folder / "bin",
        ):
            path.mkdir(parents=True)
        for name, text in TOOLS.items():
            (folder / "bin" / name).write_text(f"#!/bin/bash\n{text}")
            (folder / "bin" / name).chmod(0o755)

    def ask(self, action: str, **fields: Any) -> dict[str, Any]:
        command = [sys.executable, "-c", Path(on_host.__file__).read_text()]
        env = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}", "PACKAGES": str(self.packages)}
        request = json.dumps({"action": action, "root": str(self.root), **fields})
        ran = subprocess.run(command, input=request, env=env, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    def installed(self, *names: str) -> None:
        for name in names:
            (self.packages / name).touch()

    def joined(self, *brings: str) -> None:
        """What the package and its sidecar leave when they have been stopped."""
        self.installed("istio-sidecar", *brings)
        for place in ("etc/certs", "var/lib/istio/envoy", "var/log/istio", "etc/istio/proxy"):
            (self.root / place).mkdir(parents=True)
        (self.root / "var/lib/istio/envoy/envoy-rev.json").touch()
        (self.root / on_host.BRINGS).write_text("".join(f"{name}\n" for name in ("istio-sidecar", *brings)))

    def everything(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_host_is_taken_once_and_given_back_as_it_was(host: Host) -> None:
    host.installed("openssh-server")
    (host.root / "usr/local/bin").chmod(0o2775)
    before = host.everything()
    assert host.ask("owner") == {"owner": None}
    for _ in range(2):
        assert host.ask("take", **OWNER) == {"in_the_way": []}
    assert host.ask("owner") == {"owner": "istio-vms/prod"}
    host.joined("iptables", "libmnl0")
    assert host.ask("give_back") == {"kept": []}
    assert host.everything() == before
    assert {path.name for path in host.packages.iterdir()} == {"openssh-server"}
    assert (host.root / "usr/local/bin").stat().st_mode & 0o7777 == 0o2775
    assert host.ask("owner") == {"owner": None}


def test_a_host_that_was_only_taken_is_given_back(host: Host) -> None:
    before = host.everything()
    host.ask("take", **OWNER)
    host.ask("give_back")
    assert host.everything() == before


@pytest.mark.parametrize("other", [{"owner": "istio-vms/lab"}, {"name": "prod-vm-2"}])
def test_a_host_is_one_machine_of_one_stack(host: Host, other: dict[str, str]) -> None:
    host.ask("take", **OWNER)
    found = host.ask("take", **OWNER | other)["in_the_way"]
    assert found == ["machine prod-vm-1 of istio-vms/prod, which has the host"]


@pytest.mark.parametrize("place", on_host.PLACES)
def test_what_a_sidecar_would_overwrite_is_in_the_way(host: Host, place: str) -> None:
    (host.root / place).mkdir(parents=True)
    assert host.ask("take", **OWNER) == {"in_the_way": [f"/{place}"]}
    assert host.ask("owner") == {"owner": None}


def test_a_sidecar_of_others_is_in_the_way(host: Host) -> None:
    host.installed("istio-sidecar")
    (host.root / "etc/istio").symlink_to("/var/lib/istio")
    assert host.ask("take", **OWNER) == {"in_the_way": ["/etc/istio", "package istio-sidecar"]}


def test_packages_that_others_came_to_need_stay(host: Host) -> None:
    host.ask("take", **OWNER)
    host.joined("iptables", "libmnl0", "hostname")
    (host.folder / "needed").write_text("iptables\n")
    (host.folder / "manual").write_text("hostname\nistio-sidecar\n")
    assert host.ask("give_back") == {"kept": ["iptables"]}
    assert {path.name for path in host.packages.iterdir()} == {"iptables", "hostname"}


def test_a_package_that_does_not_go_is_an_error_and_the_host_stays_taken(host: Host) -> None:
    host.ask("take", **OWNER)
    host.joined()
    (host.folder / "needed").write_text("istio-sidecar\n")
    with pytest.raises(AssertionError, match="dpkg --purge istio-sidecar"):
        host.ask("give_back")
    assert host.ask("owner") == {"owner": "istio-vms/prod"}


def test_secrets_of_others_stay(host: Host) -> None:
    host.ask("take", **OWNER)
    (host.root / "run/secrets").mkdir()
    (host.root / "run/secrets/theirs").touch()
    host.ask("give_back")
    assert (host.root / "run/secrets/theirs").exists()


def test_machines_that_the_host_itself_runs_keep_their_disks(host: Host) -> None:
    """The driver nspawn has them beside the note of who took the host."""
    disk = host.root / layout.VAR.relative_to("/") / "lab-vm-1/upper"
    disk.mkdir(parents=True)
    before = host.everything()
    host.ask("take", **OWNER)
    host.joined()
    (host.root / f"{on_host.BRINGS.removesuffix('.brings')}.installed").touch()
    host.ask("give_back")
    assert host.everything() == before
    assert host.ask("owner") == {"owner": None}
