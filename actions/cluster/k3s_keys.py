"""The keys of k3s's `config.yaml`: which nodes take each, which values, and those that are not for settings. Pure.

From k3s's `pkg/cli/cmds/{server,agent,root,log}.go`, of v1.32 with what was added until v1.36, and https://docs.k3s.io/cli/server. A server
leaves out a key that it does not know with no more than a warning; an agent ends, and with it each of its starts.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

_FLAG, _NUMBER, _TEXT, _LIST = "true or false", "a whole number", "a text", "a text or a list of texts"

_BOTH = {
    _FLAG: """debug disable-default-registry-endpoint enable-pprof nonroot-devices prefer-bundled-bin protect-kernel-defaults selinux""",
    _NUMBER: "lb-server-port v",
    _TEXT: """default-runtime flannel-cni-conf flannel-conf flannel-iface image-credential-provider-bin-dir image-credential-provider-config
        pause-image private-registry resolv-conf snapshotter vmodule""",
    _LIST: "airgap-extra-registry kube-proxy-arg kubelet-arg node-label node-taint",
}
_SERVERS = {
    _FLAG: """disable-helm-controller disable-network-policy embedded-registry etcd-disable-snapshots etcd-expose-metrics etcd-s3
        etcd-s3-insecure etcd-s3-skip-ssl-verify etcd-snapshot-compress flannel-ip-masq-disable-random-fully flannel-ipv6-masq
        secrets-encryption supervisor-metrics tls-san-security""",
    _NUMBER: "etcd-s3-retention etcd-snapshot-retention",
    _TEXT: """default-local-storage-path egress-selector-mode etcd-s3-bucket etcd-s3-bucket-lookup-type etcd-s3-config-secret
        etcd-s3-endpoint etcd-s3-endpoint-ca etcd-s3-folder etcd-s3-proxy etcd-s3-region etcd-s3-timeout etcd-snapshot-dir
        etcd-snapshot-name etcd-snapshot-reconcile-interval etcd-snapshot-schedule-cron flannel-backend helm-job-image
        secrets-encryption-provider service-node-port-range system-default-registry write-kubeconfig-group""",
    _LIST: "etcd-arg kube-apiserver-arg kube-cloud-controller-manager-arg kube-controller-manager-arg kube-scheduler-arg",
}
_AGENTS = {_FLAG: "disable-apiserver-lb"}


def _kinds(table: Mapping[str, str]) -> dict[str, str]:
    return {key: kind for kind, keys in table.items() for key in keys.split()}


_FOR = {"server": {**_kinds(_BOTH), **_kinds(_SERVERS)}, "agent": {**_kinds(_BOTH), **_kinds(_AGENTS)}}
"""What the nodes of each role take: the keys, and what kind of value each has."""
_KNOWN = {**_FOR["server"], **_FOR["agent"]}

_OURS = "is set by the program"
_ONE_MACHINE = "is of one machine, and config is for all of them"
_PORTS = "would move the API away from port 6443, where agents, kubeconfig and checks look for it"
_WHOLE = "would leave servers without a part of Kubernetes that everything here needs"
_STORE = "would keep the cluster's data elsewhere than in k3s's own store, which several servers join by"
_SECRET = "is a secret, which has no place in a stack file; put it into a Secret and name that by etcd-s3-config-secret"  # noqa: S105
_RUNTIME = "would replace k3s's own containerd, which cluster.images are loaded into"
_VPN = "would have pods in a VPN that VMs have no routes into"

REFUSED: Mapping[str, str] = {
    "config": f"{_OURS}: the keys of such a file belong here",
    **dict.fromkeys(("token", "token-file", "agent-token", "agent-token-file"), f"{_OURS}, which makes a token for the stack"),
    **dict.fromkeys(("server", "cluster-init"), f"{_OURS}: who joins whom is settled on the machines"),
    **dict.fromkeys(("node-name", "node-ip"), f"{_OURS}, from the machine"),
    "cluster-cidr": f"{_OURS}; use cluster.podCidr",
    "service-cidr": f"{_OURS}; use cluster.serviceCidr",
    "disable": f"{_OURS}; use cluster.disable",
    "tls-san": f"{_OURS}; use cluster.endpoint for a further name of the servers",
    "write-kubeconfig-mode": f"{_OURS}",
    "write-kubeconfig": "would put the kubeconfig where the program does not look for it",
    "data-dir": "would put k3s's data where the program does not look for it",
    "cluster-domain": "would break names: the mesh's are below cluster.local",
    "cluster-dns": "follows from cluster.serviceCidr, whose tenth address it is",
    "servicelb-namespace": "would move ServiceLB's pods out of kube-system, where they are looked for",
    "with-node-id": "would change the nodes' names, by which they are waited for and removed",
    **dict.fromkeys(("node-external-ip", "node-internal-dns", "node-external-dns", "advertise-address"), _ONE_MACHINE),
    "flannel-external-ip": f"needs node-external-ip, which {_ONE_MACHINE}",
    **dict.fromkeys(("bind-address", "apiserver-bind-address"), "would keep the API from the addresses that it is looked for at"),
    **dict.fromkeys(("https-listen-port", "supervisor-port", "apiserver-port", "advertise-port"), _PORTS),
    **dict.fromkeys(("cluster-reset", "cluster-reset-restore-path"), "is for one start by hand, not for every one"),
    **dict.fromkeys(("disable-agent", "disable-apiserver", "disable-controller-manager", "disable-etcd"), _WHOLE),
    **dict.fromkeys(("disable-scheduler", "disable-kube-proxy"), _WHOLE),
    "disable-cloud-controller": "would take ServiceLB along, which gateways get their addresses from",
    **dict.fromkeys(("datastore-endpoint", "datastore-cafile", "datastore-certfile", "datastore-keyfile", "kine-tls"), _STORE),
    **dict.fromkeys(("etcd-s3-access-key", "etcd-s3-secret-key", "etcd-s3-session-token"), _SECRET),
    **dict.fromkeys(("docker", "container-runtime-endpoint", "image-service-endpoint"), _RUNTIME),
    **dict.fromkeys(("vpn-auth", "vpn-auth-file"), _VPN),
    "rootless": "would run k3s as a user; it is root's here, as ServiceLB and the routes to pods need it",
    **dict.fromkeys(("log", "alsologtostderr"), "would take k3s's log away from the journal, where its errors are read"),
    "kube-controller-arg": "is k3s's former name of kube-controller-manager-arg",
    "kube-cloud-controller-arg": "is k3s's former name of kube-cloud-controller-manager-arg",
}  # fmt: skip
"""Keys that k3s has and that are not for settings, and why: the program has them, or relies on them."""

_SHORT = {
    "c": "config",
    "d": "data-dir",
    "i": "node-ip",
    "l": "log",
    "o": "write-kubeconfig",
    "s": "server",
    "t": "token",
}
_CHOICES = {
    "flannel-backend": ("vxlan", "host-gw", "wireguard-native"),
    "egress-selector-mode": ("agent", "cluster", "pod", "disabled"),
    "secrets-encryption-provider": ("aescbc", "secretbox"),
}
_ARGUMENTS: Mapping[str, Mapping[str, str]] = {
    "kubelet-arg": {
        **dict.fromkeys(("healthz-port", "healthz-bind-address"), "would move the health that the program waits for"),
        **dict.fromkeys(("cluster-domain", "cluster-dns"), "would break names: the mesh's are below cluster.local"),
        **dict.fromkeys(("hostname-override", "node-ip"), f"{_OURS}, from the machine"),
        "register-node": "would keep nodes out of the cluster",
        "register-with-taints": "would give every node the taint; see node-taint",
    },
    "kube-apiserver-arg": {
        **dict.fromkeys(("secure-port", "advertise-address", "bind-address"), _PORTS),
        "service-cluster-ip-range": f"{_OURS}; use cluster.serviceCidr",
    },
    "kube-controller-manager-arg": {
        "cluster-cidr": f"{_OURS}; use cluster.podCidr",
        "service-cluster-ip-range": f"{_OURS}; use cluster.serviceCidr",
        "allocate-node-cidrs": "would leave nodes without addresses for pods",
    },
    "kube-proxy-arg": {"cluster-cidr": f"{_OURS}; use cluster.podCidr"},
    "etcd-arg": {"listen-metrics-urls": "would move the health that the program waits for"},
}
"""Flags of Kubernetes' own programs that the program has, or relies on."""
_WEBHOOKS = ("MutatingAdmissionWebhook", "ValidatingAdmissionWebhook")


def for_role(config: Mapping[str, Any], role: str) -> dict[str, Any]:
    """The keys that a node of that role takes; those that nobody knows too, for k3s to say so."""
    return {key: value for key, value in config.items() if key in _FOR[role] or key not in _KNOWN}


def problems(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with `cluster.config`, key by key: the key, and why, with what would be right."""
    for key, value in config.items():
        if why := _wrong_key(key) or _wrong_kind(_KNOWN[key], value):
            yield key, why
        else:
            yield from (
                (key, why) for text in _listed(value) if isinstance(text, str) and (why := _wrong_text(key, text))
            )


def _wrong_key(key: str) -> str:
    if key in REFUSED:
        return f"{REFUSED[key]}; remove it here"
    if key in _KNOWN:
        return ""
    spelled = re.sub(r"[_ ]", "-", re.sub(r"^-+|\++$", "", key)).lower()
    known = {**_KNOWN, **REFUSED}
    if _SHORT.get(spelled, spelled) in known and spelled != "v":
        return f"is not how k3s's config.yaml spells it; write {_SHORT.get(spelled, spelled)}"
    near = difflib.get_close_matches(spelled, known, n=1, cutoff=0.7)
    hint = f"; did you mean {near[0]}?" if near else "; https://docs.k3s.io/cli/server has all of them"
    return f"is no key of k3s's config.yaml{hint}"


def _wrong_kind(kind: str, value: Any) -> str:
    fits = {
        _FLAG: isinstance(value, bool),
        _NUMBER: isinstance(value, int) and not isinstance(value, bool),
        _TEXT: isinstance(value, str) and value != "",
        _LIST: all(isinstance(text, str) and text for text in _listed(value)),
    }
    return "" if fits[kind] else f"should be {kind}"


def _listed(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else [value]


def _wrong_text(key: str, text: str) -> str:
    if key in _CHOICES and text not in _CHOICES[key]:
        return f"{text!r}: should be one of {', '.join(_CHOICES[key])}"
    if key == "node-taint" and not text.endswith(":PreferNoSchedule"):
        return f"{text!r}: every node would have it, and no pod a place; only PreferNoSchedule is possible"
    name, _, value = text.lstrip("-").partition("=")
    if why := _ARGUMENTS.get(key, {}).get(name):
        return f"{name}: {why}"
    if key == "kube-apiserver-arg" and name == "disable-admission-plugins" and any(one in value for one in _WEBHOOKS):
        return f"{name}: would keep pods from getting their sidecars, and wrong Istio objects from being refused"
    return ""
