"""The scripts run for real, on a folder instead of a host's root and with programs that only tell what they are asked."""

import os
import subprocess
from pathlib import Path

import pytest

from actions.cluster.k3s_removal import HOST, MARK, PLACES, REMOVE, SOCKETS, TAKE

SAVED = """\
*filter
:INPUT ACCEPT [0:0]
:KUBE-FORWARD - [0:0]
:FLANNEL-FWD - [0:0]
-A INPUT -p tcp --dport 22 -j ACCEPT
-A FORWARD -s 10.42.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
COMMIT
"""
PROGRAMS = {
    "systemctl": 'echo "systemctl $*" >>"$LOG"',
    "pgrep": 'case "$*" in "-f "*) echo 101 ;; "-P 101") echo 102 ;; esac',
    "ip": 'case "$*" in *"show master cni0") echo "7: veth1@if2: <UP>" ;; *) echo "ip $*" >>"$LOG" ;; esac',
    "iptables-save": f"cat <<'E'\n{SAVED}E",
    "iptables-restore": 'cat >"$LOG.rules"',
    "ip6tables-save": "",
    "ip6tables-restore": "cat >/dev/null",
    "umount": 'echo "umount $*" >>"$LOG"',
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "bin").mkdir()
    for name, body in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/bash\n{body}\n")
        program.chmod(0o755)
    (tmp_path / "root/proc/self").mkdir(parents=True)
    places = ("/dev/vda /", "tmpfs /var/lib/kubelet/pods/a", "overlay /run/k3s/b", "tmpfs /run/user")
    mounts = "".join(f"{place} any rw 0 0\n" for place in places)
    (tmp_path / "root/proc/self/mounts").write_text(mounts)
    return tmp_path / "root"


def run(root: Path, script: str) -> subprocess.CompletedProcess[str]:
    """The script with every path of a host below `root`."""
    parents = ("/var/lib/rancher ", "/usr/local/lib/istio-vms ", "/root/.kube ", "/run/netns ", SOCKETS)
    for place in (*PLACES, HOST, MARK, *parents, "/proc/self/mounts", "/run/istio-vms-k3s.", "/run/netns/cni-*"):
        script = script.replace(f" {place}", f" {root}{place}").replace(f">{place}", f">{root}{place}")
    told = 'say() { echo "$*" >&2; }; kill() { echo "kill $*" >>"$LOG"; }\n'
    env = {"PATH": f"{root.parent}/bin:{os.environ['PATH']}", "LOG": str(root.parent / "log")}
    return subprocess.run(["bash", "-c", told + script], capture_output=True, text=True, env=env, check=False)


def put(root: Path, *places: str) -> None:
    for place in places:
        path = root / place.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")


def there(root: Path) -> list[str]:
    return [place for place in (*PLACES, MARK) if (root / place.lstrip("/")).exists()]


def test_a_host_without_kubernetes_is_taken(root: Path) -> None:
    put(root, HOST)
    assert run(root, TAKE).returncode == 0
    assert there(root) == [MARK]


@pytest.mark.parametrize("place", PLACES)
def test_what_is_there_already_is_left_alone(root: Path, place: str) -> None:
    put(root, HOST, place)
    ran = run(root, TAKE)
    assert ran.returncode == 1
    assert f"left alone: {root}{place}. Remove it" in ran.stderr
    assert there(root) == [place]


def test_sockets_of_a_docker_that_was_there_before_stay(root: Path) -> None:
    put(root, HOST, f"{SOCKETS}/docker.sock")
    assert [run(root, script).returncode for script in (TAKE, REMOVE)] == [0, 0]
    assert (root / SOCKETS.lstrip("/") / "docker.sock").exists()


def test_sockets_of_our_containers_go(root: Path) -> None:
    put(root, HOST)
    run(root, TAKE)
    put(root, f"{SOCKETS}/s/1")
    run(root, REMOVE)
    assert not (root / SOCKETS.lstrip("/")).exists()


def test_a_host_that_was_taken_is_gone_on_with(root: Path) -> None:
    put(root, HOST, MARK, "/usr/local/bin/k3s")
    assert run(root, TAKE).returncode == 0


def test_a_machine_of_ours_is_not_asked(root: Path) -> None:
    put(root, "/usr/local/bin/k3s")
    assert run(root, TAKE).returncode == 0
    assert there(root) == ["/usr/local/bin/k3s"]


def test_all_of_it_goes(root: Path) -> None:
    put(root, HOST, MARK, *PLACES, "/run/istio-vms-k3s.inputs")
    ran = run(root, REMOVE)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert there(root) == []
    assert not (root / "var/lib/rancher").exists() and not (root / "usr/local/lib/istio-vms").exists()
    assert not list((root / "run").glob("istio-vms-k3s*"))
    assert (root / HOST.lstrip("/")).exists()
    told = (root.parent / "log").read_text().splitlines()
    assert told[:2] == ["systemctl disable --now k3s", "kill -9 102 101"]
    assert "umount -l /var/lib/kubelet/pods/a" in told and "umount -l /run/k3s/b" in told
    assert len([line for line in told if line.startswith("umount")]) == 2
    assert [line for line in told if line.startswith("ip link delete")][:2] == [
        "ip link delete veth1",
        "ip link delete cni0",
    ]
    assert (root.parent / "log.rules").read_text() == "".join(
        f"{line}\n" for line in SAVED.splitlines() if "KUBE" not in line and "flannel" not in line.lower()
    )


def test_where_it_never_was_nothing_is_touched(root: Path) -> None:
    put(root, "/usr/local/bin/k3s", "/var/lib/kubelet")
    assert run(root, REMOVE).returncode == 0
    assert there(root) == ["/var/lib/kubelet", "/usr/local/bin/k3s"]
    assert not (root.parent / "log").exists()
