"""A cluster of three servers for real, as its user sees it: one goes, one is lost, nothing in the cluster is. Needs root and Linux.

The tests run in this order on one stack: k3s and Istio, no agents, no VMs, no samples.
"""

import json
import os
import re
import sys
import time
from collections.abc import Generator
from functools import cached_property
from pathlib import Path

import pytest
import yaml

from actions.kube import ApiCluster, KubeError
from tests.trial import Trial, trial

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="nspawn machines need Linux and root"
)

CIDRS = {"cluster": "10.92.0.0/24", "vm": "10.92.1.0/24"}
SERVERS = ("server-1", "server-2", "server-3")
EMPTY = {"workloads": [], "samples": {}, "policies": {}, "telemetry": {}, "traffic": []}
NOTE = "/api/v1/namespaces/default/configmaps/note"
ETCD = "/var/lib/rancher/k3s/server/tls/etcd"
MEMBERS = (
    f"sudo curl -fsS --cacert {ETCD}/server-ca.crt --cert {ETCD}/client.crt --key {ETCD}/client.key -d '{{}}' "
    "https://127.0.0.1:2382/v3/cluster/member/list"
)


class Servers:
    """The stack, and what is asked of it."""

    def __init__(self, made: Trial) -> None:
        self.trial = made
        self.released: dict[str, str] = {}

    @cached_property
    def kubeconfig(self) -> str:
        """As it is at first: the certificate in it stays valid whichever server made it."""
        return Path(self.trial.make("kubeconfig").check().text.splitlines()[-1]).read_text()

    def cluster(self, through: str = "server-1") -> ApiCluster:
        """The API of one of the servers."""
        kubeconfig = yaml.safe_load(self.kubeconfig)
        kubeconfig["clusters"][0]["cluster"]["server"] = f"https://{self.trial.machines()[through]['address']}:6443"
        return ApiCluster(yaml.safe_dump(kubeconfig))

    def members(self, through: str = "server-1") -> dict[str, str]:
        """etcd's voting members: the machine of each, which is in its name, and its id."""
        said = json.loads(self.trial.ssh(through, MEMBERS).check().text)
        named = re.compile(rf"{self.trial.stack}-(server-\d)-[0-9a-f]+")
        return {
            named.sub(r"\1", member["name"]): member["ID"] for member in said["members"] if not member.get("isLearner")
        }

    def ready(self, through: str = "server-1") -> set[str]:
        """The nodes that are Ready."""
        return {
            node["metadata"]["name"].removeprefix(f"{self.trial.stack}-")
            for node in self.cluster(through).items("/api/v1/nodes")
            for condition in node["status"]["conditions"]
            if (condition["type"], condition["status"]) == ("Ready", "True")
        }

    def identity(self, through: str = "server-1") -> str:
        """The cluster's own: the id of kube-system."""
        return (self.cluster(through).get("/api/v1/namespaces/kube-system") or {})["metadata"]["uid"]

    def releases(self) -> dict[str, str]:
        """Every revision of every Helm release, by the name of its Secret, which ends with the revision; and the Secret's id."""
        found = self.cluster().items("/api/v1/namespaces/istio-system/secrets", "owner=helm")
        return {one["metadata"]["name"]: one["metadata"]["uid"] for one in found}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Servers]:
    """The stack, up."""
    with trial(tmp_path_factory.mktemp("servers"), "e2eha", CIDRS) as made:
        cluster = made.settings["istio-vms:cluster"]
        cluster |= {"servers": {"count": 3, "cpus": 2, "memory": "1536Mi"}, "agents": {"count": 0}}
        cluster["images"] = [image for image in cluster["images"] if "samples" not in image["path"]]
        made.settings["istio-vms:mesh"].pop("exposedServices")
        made.settings |= {f"istio-vms:{table}": nothing for table, nothing in EMPTY.items()}
        made.settings["istio-vms:protection"] = {"machines": True, "controlPlane": True}
        made.write_settings()
        made.make("up").check()
        yield Servers(made)


def test_three_servers_are_one_cluster(servers: Servers) -> None:
    assert servers.ready() == set(SERVERS)
    assert set(servers.members()) == set(SERVERS)
    nodes = servers.cluster().items("/api/v1/nodes")
    roles = {"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/etcd"}
    assert all(roles <= set(node["metadata"]["labels"]) for node in nodes)
    assert len({servers.identity(through=name) for name in SERVERS}) == 1


def test_with_one_server_down_the_cluster_goes_on(servers: Servers) -> None:
    servers.released = servers.releases()
    servers.trial.ssh("server-1", "sudo systemctl poweroff")
    deadline = time.monotonic() + 30
    while servers.trial.machines()["server-1"]["state"] != "stopped":
        assert time.monotonic() < deadline
        time.sleep(0.5)
    written = {"metadata": {"name": "note"}, "data": {"written": "while server-1 was down"}}
    while True:
        try:
            servers.cluster(through="server-2").create("/api/v1/namespaces/default/configmaps", written)
            break
        except KubeError:
            # etcd elects another leader, for a second or two.
            assert time.monotonic() < deadline
            time.sleep(0.5)
    assert (servers.cluster(through="server-3").get(NOTE) or {})["data"] == written["data"]


def test_a_protected_server_that_is_lost_is_given_up_by_hand(servers: Servers) -> None:
    servers.trial.delete_machine("server-1")
    refused = servers.trial.make("up")
    assert refused.code != 0
    assert "e2eha-server-1-machine: protected, and the driver does not have it any more" in refused.text
    given_up = re.findall(r"pulumi state unprotect --stack e2eha --yes '(.*)'", refused.text)
    assert [urn.rpartition("::")[2] for urn in given_up] == ["e2eha-server-1-machine", "e2eha-server-1-node"]
    for urn in given_up:
        servers.trial.pulumi("state", "unprotect", "--yes", f"'{urn}'")


def test_a_server_that_is_lost_is_made_anew_and_joins_the_others(servers: Servers) -> None:
    identity, members = servers.identity(through="server-2"), servers.members(through="server-2")
    said = servers.trial.make("up").check().text
    assert "machine e2eha-server-1 is gone; it will be recreated" in said
    assert "e2eha-server-1: joining https://" in said
    assert not re.search(r"(Release|Namespace) \S+ (replac|deleting|creating|updating)", said)
    assert {servers.identity(through=name) for name in SERVERS} == {identity}
    now = servers.members()
    assert set(now) == set(SERVERS)
    assert {name for name in SERVERS if now[name] != members[name]} == {"server-1"}
    assert servers.ready() == set(SERVERS)
    assert (servers.cluster().get(NOTE) or {})["data"] == {"written": "while server-1 was down"}
    assert servers.releases() == servers.released, "no release was upgraded or recreated"


def test_a_second_up_changes_nothing(servers: Servers) -> None:
    said = servers.trial.make("up").check().text
    assert re.search(r"Resources:\n +\d+ unchanged\n", said), said


def test_what_is_protected_is_neither_replaced_nor_taken_down(servers: Servers) -> None:
    image = servers.trial.settings["istio-vms:machines"]["image"]
    servers.trial.settings["istio-vms:machines"]["image"] = f"{image}/"
    servers.trial.write_settings()
    shown = servers.trial.make("preview")
    servers.trial.settings["istio-vms:machines"]["image"] = image
    servers.trial.write_settings()
    assert shown.code != 0
    assert re.search(
        r"e2eha-server-\d-machine: would be deleted or replaced, which istio-vms:protection refuses", shown.text
    )
    refused = servers.trial.make("down")
    assert refused.code != 0
    assert "stack e2eha is protected, nothing was taken down" in refused.text
    assert servers.ready() == set(SERVERS)


def test_down_leaves_nothing_once_nothing_is_protected(servers: Servers) -> None:
    servers.trial.settings["istio-vms:protection"] = {"machines": False, "controlPlane": False}
    servers.trial.write_settings()
    servers.trial.make("up").check()
    servers.trial.make("down").check()
    assert servers.trial.machines() == {}
    assert not (servers.trial.state / "istio-vms").exists()
