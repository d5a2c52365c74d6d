"""What `cluster.config`, `cluster.version`, `cluster.images` and `cluster.disable` take: k3s's own keys, and nothing that breaks us."""

from __future__ import annotations

from typing import Any

import pytest

from actions.cluster import k3s_keys
from tests.unit.test_settings import DEV, LAB, parse, problems, put

OURS = "set by the program"
BAD: list[tuple[str, Any, str]] = [
    ("token", "x", OURS),
    ("token-file", "/etc/token", OURS),
    ("agent-token", "x", OURS),
    ("server", "https://10.0.0.1:6443", OURS),
    ("cluster-init", True, "who joins whom is settled on the machines"),
    ("cluster-reset", True, "not for every one"),
    ("node-name", "n", OURS),
    ("node-ip", "10.0.0.1", OURS),
    ("with-node-id", True, "nodes' names"),
    ("cluster-cidr", "10.42.0.0/16", "use cluster.podCidr"),
    ("service-cidr", "10.43.0.0/16", "use cluster.serviceCidr"),
    ("cluster-dns", "10.43.0.10", "follows from cluster.serviceCidr"),
    ("cluster-domain", "example.org", "below cluster.local"),
    ("disable", ["traefik"], "use cluster.disable"),
    ("tls-san", ["k8s.example.org"], "use cluster.endpoint"),
    ("data-dir", "/srv/k3s", "does not look for it"),
    ("write-kubeconfig", "/root/kubeconfig", "does not look for it"),
    ("write-kubeconfig-mode", "0644", OURS),
    ("bind-address", "127.0.0.1", "addresses that it is looked for at"),
    ("https-listen-port", 7443, "port 6443"),
    ("supervisor-port", 7443, "port 6443"),
    ("advertise-address", "10.0.0.1", "is of one machine"),
    ("node-external-ip", "203.0.113.1", "is of one machine"),
    ("flannel-external-ip", True, "node-external-ip"),
    ("servicelb-namespace", "edge", "kube-system"),
    ("disable-agent", True, "without a part of Kubernetes"),
    ("disable-kube-proxy", True, "without a part of Kubernetes"),
    ("disable-scheduler", True, "without a part of Kubernetes"),
    ("disable-etcd", True, "without a part of Kubernetes"),
    ("disable-cloud-controller", True, "ServiceLB"),
    ("disable-network-policy", True, "policies.egressGuards"),
    ("datastore-endpoint", "postgres://u:p@h/db", "k3s's own store"),
    ("etcd-s3-secret-key", "x", "etcd-s3-config-secret"),
    ("docker", True, "containerd"),
    ("container-runtime-endpoint", "/run/crio.sock", "containerd"),
    ("rootless", True, "root's here"),
    ("vpn-auth", "name=tailscale,joinKey=x", "VPN"),
    ("log", "/var/log/k3s.log", "journal"),
    ("config", "/etc/other.yaml", "belong here"),
    ("kube-controller-arg", ["v=2"], "kube-controller-manager-arg"),
    ("--kubelet-arg", ["max-pods=10"], "write kubelet-arg"),
    ("kubelet-arg+", ["max-pods=10"], "write kubelet-arg"),
    ("kubelet_arg", ["max-pods=10"], "write kubelet-arg"),
    ("Kubelet-Arg", ["max-pods=10"], "write kubelet-arg"),
    ("t", "x", "write token"),
    ("kubelet-args", ["max-pods=10"], "did you mean kubelet-arg?"),
    ("node-lable", "a=b", "did you mean node-label?"),
    ("secret-encryption", True, "did you mean secrets-encryption?"),
    ("colour", "red", "https://docs.k3s.io/cli/server"),
    ("kubelet-arg", {"max-pods": 10}, "a text or a list of texts"),
    ("kubelet-arg", [{"max-pods": 10}], "a text or a list of texts"),
    ("kubelet-arg", 10, "a text or a list of texts"),
    ("kubelet-arg", None, "a text or a list of texts"),
    ("node-label", True, "a text or a list of texts"),
    ("secrets-encryption", "yes", "true or false"),
    ("secrets-encryption", ["true"], "true or false"),
    ("debug", 1, "true or false"),
    ("etcd-snapshot-retention", "5", "a whole number"),
    ("etcd-snapshot-retention", True, "a whole number"),
    ("etcd-snapshot-dir", ["/srv"], "a text"),
    ("etcd-snapshot-dir", "", "a text"),
    ("default-runtime", None, "a text"),
    ("flannel-backend", "none", "one of vxlan, host-gw, wireguard-native"),
    ("flannel-backend", "ipsec", "one of vxlan, host-gw, wireguard-native"),
    ("egress-selector-mode", "off", "one of agent"),
    ("node-taint", ["dedicated=edge:NoSchedule"], "every node would have it"),
    ("node-taint", "dedicated=edge:NoExecute", "every node would have it"),
    ("kubelet-arg", ["max-pods=10", "healthz-port=10249"], "healthz-port"),
    ("kubelet-arg", "--cluster-domain=example.org", "below cluster.local"),
    ("kubelet-arg", ["hostname-override=x"], OURS),
    ("kube-apiserver-arg", ["service-cluster-ip-range=10.96.0.0/12"], "use cluster.serviceCidr"),
    ("kube-apiserver-arg", ["disable-admission-plugins=MutatingAdmissionWebhook"], "sidecars"),
    ("kube-controller-manager-arg", ["cluster-cidr=10.0.0.0/8"], "use cluster.podCidr"),
]  # fmt: skip
GOOD: dict[str, Any] = {
    "secrets-encryption": True,
    "kube-apiserver-arg": ["audit-log-maxage=7", "disable-admission-plugins=PodSecurity"],
    "kubelet-arg": "max-pods=100",
    "node-label": ["tier=edge"],
    "node-taint": ["spare=yes:PreferNoSchedule"],
    "flannel-backend": "host-gw",
    "etcd-snapshot-retention": 3,
    "etcd-s3-config-secret": "backup",
    "disable-apiserver-lb": False,
    "debug": False,
    "v": 2,
}


@pytest.mark.parametrize(("key", "value", "says"), BAD, ids=[f"{key}={value}" for key, value, _ in BAD])
def test_a_key_of_k3s_that_cannot_be_is_refused(key: str, value: Any, says: str) -> None:
    tables = put(LAB, "cluster.config", {"kubelet-arg": ["cgroup-driver=cgroupfs"], key: value})
    found = problems(tables)
    assert list(found) == [f"cluster.config.{key}"]
    assert says in found[f"cluster.config.{key}"]


def test_every_key_is_refused_at_once() -> None:
    assert len(problems(put(LAB, "cluster.config", {key: value for key, value, _ in BAD}))) == len({k for k, *_ in BAD})


def test_a_secret_is_not_shown() -> None:
    found = problems(put(LAB, "cluster.config", {"etcd-s3-secret-key": "hunter2", "token": "hunter2"}))
    assert "hunter2" not in str(found)


@pytest.mark.parametrize("key", GOOD)
def test_a_key_that_may_be_is_taken(key: str) -> None:
    parse(put(LAB, f"cluster.config.{key}", GOOD[key]))


def test_servers_get_their_keys_and_agents_theirs() -> None:
    server, agent = (k3s_keys.for_role(GOOD, role) for role in ("server", "agent"))
    both = {"kubelet-arg", "node-label", "node-taint", "debug", "v"}
    assert set(server) == set(GOOD) - {"disable-apiserver-lb"}
    assert set(agent) == {*both, "disable-apiserver-lb"}


def test_the_policy_controller_may_go_where_nothing_needs_it() -> None:
    parse(put(put(LAB, "cluster.config.disable-network-policy", True), "policies.egressGuards", []))
    parse(put(LAB, "cluster.config.disable-network-policy", False))


@pytest.mark.parametrize(
    ("component", "says"),
    [
        ("traefik", "is off, always"),
        ("servicelb", "gateways get their addresses from"),
        ("coredns", "find istiod by"),
        ("nginx", "metrics-server or local-storage"),
    ],
)
def test_a_component_that_is_needed_stays(component: str, says: str) -> None:
    assert says in problems(put(LAB, "cluster.disable", [component]))["cluster.disable[0]"]


@pytest.mark.parametrize("version", ["v1.28.15+k3s1", "v1.31.14+k3s1"])
def test_kubernetes_is_no_older_than_istio_needs(version: str) -> None:
    found = problems(put(LAB, "cluster.version", version))
    assert found == {
        "cluster.version": f"'{version}': Istio 1.30-alpha.20260826 (mesh.version) needs Kubernetes 1.32 or later"
    }


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.zst", "a.TZST", "images.oci", "images"])
def test_archives_that_nodes_can_load_are_taken(name: str) -> None:
    url = f"https://example.org/{name}?a=b.lz4"
    parse(put(DEV, "cluster.images", [{"url": url, "sha256": "a" * 64}]), "dev")


@pytest.mark.parametrize("name", ["a.tar.lz4", "a.tar.bz2", "a.tbz", "a.tar.xz", "images.txt", "images.zip"])
def test_other_archives_are_refused(name: str) -> None:
    found = problems(
        put(DEV, "cluster.images", [{"url": f"https://example.org/{name}", "sha256": "a" * 64}]), stack="dev"
    )
    assert ".tar, .tar.gz, .tgz, .tar.zst, .tzst" in found["cluster.images[0]"]
    assert name in found["cluster.images[0]"]


def test_an_archive_is_compressed_alike_for_both_architectures() -> None:
    both = {
        "url": "https://example.org/a.tar.gz",
        "sha256": "a" * 64,
        "arm64": {"url": "https://example.org/b.tar", "sha256": "b" * 64},
    }
    assert "called *.tar.gz" in problems(put(DEV, "cluster.images", [both]), stack="dev")["cluster.images[0].arm64"]
