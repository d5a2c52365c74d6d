"""k3s on real machines after the first `up`: its own keys, other images, a node that somebody deleted. Needs root and Linux.

The tests run in this order on one stack: a server and an agent with Istio, no VMs, no samples.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import sys
from collections.abc import Generator
from functools import cached_property
from pathlib import Path

import pytest

from actions.kube import ApiCluster
from lab.images.oci import File, Image, write_archive
from tests.trial import Trial, trial

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="nspawn machines need Linux and root"),
]

CIDRS = {"cluster": "10.104.0.0/24", "vm": "10.104.1.0/24"}
NODES = ("server-1", "agent-1")
EMPTY = {"workloads": [], "samples": {}, "policies": {}, "telemetry": {}, "traffic": []}
IMAGES = (
    "sudo /usr/local/lib/istio-vms/k3s/bin/ctr -a /run/k3s/containerd/containerd.sock -n k8s.io images ls 'name~=tiny'"
)


class Cluster:
    """The stack, and a folder of this machine that its machines see."""

    def __init__(self, made: Trial, folder: Path) -> None:
        self.trial = made
        self.folder = folder

    @property
    def settings(self) -> dict[str, object]:
        return self.trial.settings["istio-vms:cluster"]

    @cached_property
    def api(self) -> ApiCluster:
        return ApiCluster(Path(self.trial.make("kubeconfig").check().text.splitlines()[-1]).read_text())

    def ready(self) -> set[str]:
        return {
            node["metadata"]["name"].removeprefix(f"{self.trial.stack}-")
            for node in self.api.items("/api/v1/nodes")
            for condition in node["status"]["conditions"]
            if (condition["type"], condition["status"]) == ("Ready", "True")
        }

    def on(self, machine: str, command: str) -> str:
        return self.trial.ssh(machine, command).check().text.strip()

    def processes(self) -> dict[str, str]:
        """The process that k3s is on each node; another one after a restart."""
        return {node: self.on(node, "systemctl show -p MainPID --value k3s") for node in NODES}

    def change(self, **keys: object) -> None:
        self.trial.settings["istio-vms:cluster"] |= keys
        self.trial.write_settings()

    def archive(self, name: str) -> dict[str, str]:
        """An archive with one small image, compressed if its name says so; what names it in the settings."""
        made = self.folder / name
        plain = made.with_suffix(".plain")
        write_archive([Image(f"example.org/tiny/{name}:1", [[File("x", name.encode())]], ["/x"])], plain)
        made.write_bytes(gzip.compress(plain.read_bytes()) if name.endswith("gz") else plain.read_bytes())
        plain.unlink()
        return self.noted(made)

    def noted(self, file: Path) -> dict[str, str]:
        with (self.folder / "SHA256SUMS").open("a") as sums:
            sums.write(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")
        return {"path": str(file)}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    folder = tmp_path_factory.mktemp("archives")
    with trial(tmp_path_factory.mktemp("e2ek3s"), "e2ek3s", CIDRS) as made:
        made.settings["istio-vms:machines"]["mounts"].append({"source": str(folder), "target": "/opt/archives"})
        made.settings["istio-vms:mesh"]["exposedServices"] = []
        made.settings |= {f"istio-vms:{table}": nothing for table, nothing in EMPTY.items()}
        keys = made.settings["istio-vms:cluster"]["config"]
        keys |= {
            "secrets-encryption": True,
            "kube-apiserver-arg": ["audit-log-maxage=7"],
            "disable-network-policy": True,
        }
        made.settings["istio-vms:cluster"]["agents"]["count"] = 1
        made.write_settings()
        made.make("up").check()
        yield Cluster(made, folder)


def test_keys_of_servers_are_for_servers_only(cluster: Cluster) -> None:
    assert cluster.ready() == set(NODES)
    assert "secrets-encryption: true" in cluster.on("server-1", "sudo cat /etc/rancher/k3s/config.yaml")
    assert "secrets-encryption" not in cluster.on("agent-1", "sudo cat /etc/rancher/k3s/config.yaml")
    assert "aescbc" in cluster.on("server-1", "sudo cat /var/lib/rancher/k3s/server/cred/encryption-config.json")


def test_new_images_are_loaded_while_k3s_runs(cluster: Cluster) -> None:
    before, images = cluster.processes(), list(cluster.trial.settings["istio-vms:cluster"]["images"])
    cluster.change(images=[*images, cluster.archive("plain.tar"), cluster.archive("packed.tar.gz")])
    cluster.trial.make("up").check()
    for node in NODES:
        listed = cluster.on(node, IMAGES)
        for name in ("plain.tar", "packed.tar.gz"):
            (line,) = [line for line in listed.splitlines() if line.startswith(f"example.org/tiny/{name}:1")]
            assert "io.cattle.k3s.pinned=pinned" in line
    cluster.change(images=images)
    cluster.trial.make("up").check()
    for node in NODES:
        assert cluster.on(node, "sudo ls /var/lib/rancher/k3s/agent/images").split() == [
            "istio-vms-00.tar",
            "istio-vms-01.tar",
            "istio-vms-02.tar",
        ]
    assert cluster.processes() == before


def test_an_archive_that_cannot_be_read_is_named_at_once(cluster: Cluster) -> None:
    broken = cluster.folder / "broken.tar.gz"
    broken.write_text("<html>not found</html>")
    images = list(cluster.trial.settings["istio-vms:cluster"]["images"])
    cluster.change(images=[*images, cluster.noted(broken)])
    ran = cluster.trial.make("up")
    cluster.change(images=images)
    assert ran.code != 0
    assert "broken.tar.gz of cluster.images is no archive of images" in ran.text
    assert ran.seconds < 120


@pytest.mark.parametrize("node", ["agent-1", pytest.param("server-1", marks=pytest.mark.nightly)])
def test_a_node_that_somebody_deleted_comes_back(cluster: Cluster, node: str) -> None:
    cluster.api.delete(f"/api/v1/nodes/{cluster.trial.stack}-{node}")
    said = cluster.trial.make("up").check().text
    assert f"repair: {cluster.trial.stack}-{node} registers with the cluster again" in said
    assert cluster.ready() == set(NODES)
