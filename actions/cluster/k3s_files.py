"""What makes a machine a k3s node: one idempotent shell script, rendered from plain data.

The script finds the join token in `$token`, tells progress on stderr, and on a server prints the admin kubeconfig on stdout. It restarts
k3s only when something it wrote has changed, so running it again is how a node is upgraded, reconfigured or repaired.

Paths and keys: https://docs.k3s.io/installation/configuration and https://docs.k3s.io/installation/airgap.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from actions.artifacts import MachineArtifact, fetch_script
from actions.cluster import k3s_images
from actions.cluster.k3s_keys import for_role
from actions.cluster.k3s_removal import TAKE
from actions.cluster.versions import see_step_script

DATA = "/var/lib/rancher/k3s"
TOOLS = "/usr/local/lib/istio-vms/k3s"
BINARY = f"{TOOLS}/k3s"
READY_SECONDS = 180
REGISTER_SECONDS = 15
"""How long a node whose kubelet has started gets until the cluster has it."""
JOIN_SECONDS = 300
"""How long a server without data waits for another one that it can join."""


@dataclass(frozen=True)
class NodeSpec:
    """One node. `address` is its IPv4 address.

    `join` is the API's URL for an agent, `""` for a server. `peers` are the URLs of a server's fellows, in the order to ask them: with any,
    etcd is embedded and the script settles which of them the server joins. `founder` says that this machine is the one that the cluster
    began with. `endpoint` is a further name or address that servers are reached at.
    """

    name: str
    role: str
    address: str
    join: str
    version: str
    binary: MachineArtifact
    pod_cidr: str
    service_cidr: str
    tools: MachineArtifact | None = None
    images: tuple[MachineArtifact, ...] = ()
    disable: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict[str, Any])
    service_options: Mapping[str, str] = field(default_factory=dict[str, str])
    containerd_template: str = ""
    peers: tuple[str, ...] = ()
    founder: bool = False
    endpoint: str = ""


def config_yaml(spec: NodeSpec) -> str:
    """`/etc/rancher/k3s/config.yaml`."""
    config: dict[str, Any] = {
        "node-name": spec.name,
        "node-ip": spec.address,
        "token-file": "/etc/rancher/k3s/token",
    }
    if spec.join:
        config["server"] = spec.join
    if spec.role == "server":
        config |= {
            "disable": ["traefik", *spec.disable],
            "tls-san": [spec.address, *([spec.endpoint] if spec.endpoint else [])],
            "cluster-cidr": spec.pod_cidr,
            "service-cidr": spec.service_cidr,
            "write-kubeconfig-mode": "0600",
        }
    return yaml.safe_dump(config | for_role(spec.config, spec.role), sort_keys=True)


def unit(spec: NodeSpec) -> str:
    """`/etc/systemd/system/k3s.service`, after the unit that k3s's own installer writes."""
    options = {
        "Type": "notify" if spec.role == "server" else "exec",
        "Environment": f"PATH={TOOLS}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "EnvironmentFile": "-/etc/systemd/system/k3s.service.env",
        "KillMode": "process",
        "Delegate": "yes",
        "LimitNOFILE": "1048576",
        "LimitNPROC": "infinity",
        "LimitCORE": "infinity",
        "TasksMax": "infinity",
        "TimeoutStartSec": "0",
        "Restart": "always",
        "RestartSec": "2s",
        "ExecStartPre": "-/sbin/modprobe -a br_netfilter overlay",
        "ExecStart": f"/usr/local/bin/k3s {spec.role}",
    } | dict(spec.service_options)
    service = "\n".join(f"{key}={value}" for key, value in options.items())
    return f"""[Unit]
Description=Lightweight Kubernetes
Documentation=https://k3s.io
After=network-online.target
Wants=network-online.target

[Service]
{service}

[Install]
WantedBy=multi-user.target
"""


def node_script(spec: NodeSpec) -> str:
    """The whole script; to be run as root by bash, with the join token in `$token`."""
    parts = [_PROLOGUE, TAKE, see_step_script(spec.version), _FIRST_FILES]
    parts += [_SAME_BINARY, fetch_script(spec.binary, BINARY, mode="0755"), f"see_version {shlex.quote(spec.version)}"]
    if spec.tools:
        parts += [fetch_script(spec.tools, f"{TOOLS}/tools.tar"), _UNPACK_TOOLS]
    parts.append(k3s_images.keep_script(spec.images, TOOLS))
    parts.append(_PUT_BINARY)
    parts.append(_install("/etc/rancher/k3s/config.yaml", config_yaml(spec)))
    parts.append(_install("/etc/systemd/system/k3s.service", unit(spec)))
    if spec.containerd_template:
        parts.append(_install(f"{DATA}/agent/etc/containerd/config.toml.tmpl", spec.containerd_template))
    if spec.peers:
        parts.append(_settle(spec))
    parts.append(_START)
    ready = [_AGENT_READY] if spec.role == "agent" else [_api_ready(spec), *([_ETCD_READY] if spec.peers else [])]
    parts += [*ready, _SEE_KEYS, k3s_images.LOAD]
    if spec.role == "server":
        parts.append(_KUBECONFIG)
    return "\n".join(parts)


def _settle(spec: NodeSpec) -> str:
    """How a server of several gets into the cluster: settled while it has no data of its own, and never again."""
    return _SETTLE.format(
        peers=" ".join(map(shlex.quote, spec.peers)),
        founder="yes" if spec.founder else "",
        data=DATA,
        seconds=JOIN_SECONDS,
    )


def _install(path: str, content: str) -> str:
    return f"install_file {shlex.quote(path)} {shlex.quote(content)}"


_PROLOGUE = """\
set -euo pipefail
exec 3>&1 1>&2
say() { echo "$(hostname): $*" >&2; }
# A run that was killed at the operator's end may still be at it here.
exec 9>/run/istio-vms-k3s.lock
flock -w 300 9 || { say "another run still works on this node after 300 s"; exit 1; }

# install_file PATH CONTENT: writes only what differs, so that an unchanged file does not restart k3s.
install_file() {
  mkdir -p "$(dirname "$1")"
  printf '%s' "$2" | cmp -s - "$1" && return 0
  (umask 077; printf '%s' "$2" >"$1.new"; mv "$1.new" "$1")
}

# see_version VERSION: before k3s is started with it.
see_version() {
  local found
  found=$("$binary" --version | awk 'NR == 1 { print $3 }' || true)
  [ "$found" != "$1" ] || return 0
  say "cluster.version is $1, and cluster.binary is k3s ${found:-of no version}: they have to be changed together. k3s was left as it runs"
  exit 1
}
"""

_SAME_BINARY = f"""\
# The binary is looked at before it takes the other one's place.
binary={BINARY}
mkdir -p {TOOLS}
[ -e "$binary" ] || [ ! -e /usr/local/bin/k3s ] || ln /usr/local/bin/k3s "$binary" 2>/dev/null || cp -p /usr/local/bin/k3s "$binary"
"""

_PUT_BINARY = """\
if ! cmp -s "$binary" /usr/local/bin/k3s; then
  cp -lf "$binary" /usr/local/bin/.k3s.new 2>/dev/null || cp -p "$binary" /usr/local/bin/.k3s.new
  mv -fT /usr/local/bin/.k3s.new /usr/local/bin/k3s
fi
"""

_FIRST_FILES = """\
ln -sfn k3s /usr/local/bin/kubectl
install_file /etc/rancher/k3s/token "$token"
"""

_UNPACK_TOOLS = f"""\
if [ ! -e {TOOLS}/.unpacked ] || [ {TOOLS}/tools.tar -nt {TOOLS}/.unpacked ]; then
  mkdir -p {TOOLS}/bin
  tar -xf {TOOLS}/tools.tar -C {TOOLS}/bin
  touch {TOOLS}/.unpacked
fi
for name in containerd crictl ctr; do ln -sfn /usr/local/bin/k3s {TOOLS}/bin/$name; done"""

_SETTLE = """\
# answers URL: whether a server of a cluster is there; that it is ours is seen when k3s joins it with the token.
answers() {{ [ "$(curl -ks -m 3 "$1/ping")" = pong ]; }}

# A server with members in its data goes on as one of them. One without joins whoever answers. Only the machine that the cluster began
# with may begin it, and only in the run that makes it (`founding`), or with what it had as the only server.
settle() {{
  local peer waited=0 founder={founder} file=/etc/rancher/k3s/config.yaml.d/join.yaml
  [ ! -d {data}/server/db/etcd/member/wal ] || return 0
  while :; do
    for peer in {peers}; do
      if answers "$peer"; then say "joining $peer"; install_file "$file" "server: $peer"; return 0; fi
    done
    if [ "$founder" ] && {{ [ "${{founding:-}}" ] || [ -e {data}/server/db/state.db ]; }}; then
      say "beginning the cluster"; install_file "$file" "cluster-init: true"; return 0
    fi
    [ $((waited += 2)) -le {seconds} ] || break
    sleep 2
  done
  say "this machine has none of the cluster's data, and no other server answers after {seconds} s: {peers}. Bring back one that has the" \\
    "data, or go back to a snapshot (https://docs.k3s.io/datastore/backup-restore)"
  exit 1
}}
settle"""

_START = f"""\
# What k3s runs with, in one digest: a node is restarted when it differs from what it was last started with.
inputs=$( (stat -c '%i %Y %s' /usr/local/bin/k3s
  cat /etc/rancher/k3s/{{config.yaml,config.yaml.d/join.yaml,token}} /etc/systemd/system/k3s.service \\
    {DATA}/agent/etc/containerd/config.toml.tmpl
) 2>/dev/null | sha256sum | cut -d' ' -f1 || true)
if [ "$(cat /run/istio-vms-k3s.inputs 2>/dev/null)" != "$inputs" ] || ! systemctl is-active --quiet k3s; then
  say "starting k3s"
  systemctl daemon-reload
  systemctl enable --quiet k3s
  systemctl reset-failed k3s 2>/dev/null || true
  systemctl restart --no-block k3s
  echo "$inputs" >/run/istio-vms-k3s.inputs
  started=yes
fi

give_up() {{
  journalctl -u k3s -o cat -n 400 --no-pager | grep -E 'level=(error|fatal)|^E[0-9]' | tail -n 8 | cut -c1-400 >&2
  rm -f /run/istio-vms-k3s.inputs
  say "$1; the last errors of k3s are above, all of them in: journalctl -u k3s"
  exit 1
}}

# until_ready WHAT COMMAND…: a k3s that keeps ending is not waited for.
until_ready() {{
  local what=$1 tries=0
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$(systemctl show -p NRestarts --value k3s)" -lt 4 ] || give_up "k3s keeps ending"
    [ $((tries += 1)) -lt {READY_SECONDS * 4} ] || give_up "$what was not ready after {READY_SECONDS} s"
    sleep 0.25
  done
  say "$what is ready"
}}"""


def _api_ready(spec: NodeSpec) -> str:
    """Asked as clients will ask: a server that came back at another address, or got an endpoint, serves its old certificate for a while."""
    ask = f"kubectl --server https://{spec.address}:6443"
    asked = [f'until_ready "the API server at {spec.address}" {ask} get --raw /readyz']
    if spec.endpoint:
        named = f"--tls-server-name {shlex.quote(spec.endpoint)}"
        asked.append(f'until_ready "the certificate for "{shlex.quote(spec.endpoint)} {ask} {named} get --raw /readyz')
    return "\n".join(asked)


# etcd says so once it has a leader and this member votes. k3s always has its metrics port on the loopback (`--etcd-expose-metrics`).
_ETCD_READY = """\
etcd_votes() { curl -fsS -m 2 http://127.0.0.1:2381/health | grep -q '"health":"true"'; }
until_ready "etcd" etcd_votes"""

_SEE_KEYS = """\
# A server passes over a key that this k3s does not have, and would run without what it asks for.
unknown=$(journalctl _SYSTEMD_INVOCATION_ID="$(systemctl show -p InvocationID --value k3s)" -o cat --no-pager 2>/dev/null |
  grep -oE 'Unknown flag [^ ]+' | sort -u | tr '\\n' ';' || true)
[ -z "$unknown" ] || give_up "a key of cluster.config is of another k3s than cluster.version: $unknown"
"""

_KUBECONFIG = """\
cat /etc/rancher/k3s/k3s.yaml >&3
"""

_AGENT_READY = """\
until_ready "the kubelet" curl -fsS -m 2 http://127.0.0.1:10248/healthz
"""


def register_script(fellows: Sequence[str] = ()) -> str:
    """Run on a node's own machine: starts its k3s again, unless that is starting anyway; says what it did.

    The node may get another range for its pods: without flannel's file (`WriteSubnetFile` in its pkg/subnet/subnet.go) none starts before
    flannel knows it. With `fellows`, the other servers' addresses: etcd has put a server out whose node was deleted, and it joins one of
    those, never a cluster of its own.
    """
    return f"""\
set -u
rejoin() {{
  local peer
  [ -e {DATA}/server/db/etcd/tombstone ] || return 0
  for peer in {" ".join(shlex.quote(f"https://{fellow}:6443") for fellow in fellows)}; do
    [ "$(curl -ks -m 3 "$peer/ping")" = pong ] || continue
    echo "server: $peer" >/etc/rancher/k3s/config.yaml.d/join.yaml
    return 0
  done
  echo "etcd has put this server out, and no other one answers for it to join" >&2
  exit 1
}}
if systemctl is-active --quiet k3s && ! curl -fsS -m 2 http://127.0.0.1:10248/healthz >/dev/null 2>&1; then exit 0; fi
{"rejoin" if fellows else ""}
rm -f /run/flannel/subnet.env
systemctl restart --no-block k3s && echo "k3s was started again"
"""


def renumber_script(pod_range: str, former: Sequence[str]) -> str:
    """Run on a node's own machine: starts the pods anew that have addresses of a range that the node had before.

    A node that registers again may be given another range, and what runs with an address of the former one is reached by nobody. The bridge
    takes the range's address with the next pod (`forceAddress` in k3s' pkg/agent/flannel/setup.go). The file is flannel's:
    `WriteSubnetFile` in its pkg/subnet/subnet.go.

    Args:
        pod_range: `spec.podCIDR` of the node.
        former: the addresses of these pods.
    """
    network = ipaddress.ip_network(pod_range)
    first = f"{network[1]}/{network.prefixlen}"
    return f"""\
set -u
took_over() {{ grep -qE "^FLANNEL_(IPV6_)?SUBNET={re.escape(first)}$" /run/flannel/subnet.env; }}
for _ in $(seq {REGISTER_SECONDS * 4}); do took_over && break; sleep 0.25; done
took_over || {{ echo "flannel has not taken over the node's range {pod_range}; see journalctl -u k3s" >&2; exit 1; }}
ln -sfn /usr/local/bin/k3s {TOOLS}/bin/crictl
cri() {{ {TOOLS}/bin/crictl -r unix:///run/k3s/containerd/containerd.sock "$@"; }}
unreached() {{
  local sandbox address
  for sandbox in $(cri pods -q); do
    address=$(cri inspectp -o go-template --template '{{{{.status.network.ip}}}}' "$sandbox" 2>/dev/null) || continue
    case " {" ".join(former)} " in *" $address "*) echo "$sandbox" ;; esac
  done
}}
# The kubelet may be at one of them, too: whoever comes second fails.
for _ in 1 2 3 4 5; do
  sandboxes=$(unreached)
  [ -n "$sandboxes" ] || exit 0
  said=$(cri rmp -f $sandboxes 2>&1) || sleep 1
done
[ -z "$(unreached)" ] || {{ echo "$said" >&2; exit 1; }}
"""


def member_script(name: str, address: str = "", *, patient: bool = False) -> str:
    """Run on a server: waits until node `name` is Ready and, given an address, known to be reached there.

    k3s looks only once a minute whether a node came back at another one, and until then sends everybody to the old one. A node that the
    cluster does not have, nor gets soon, is said to be `absent`; when `patient`, not before all the time is over.
    """
    node = shlex.quote(name)
    seen = '{.status.conditions[?(@.type=="Ready")].status} {.status.addresses[?(@.type=="InternalIP")].address} '
    wanted = f"'there True'*{shlex.quote(f' {address} ')}*" if address else "'there True'*"
    enough = READY_SECONDS if patient else REGISTER_SECONDS
    return f"""\
set -u
absent=0 ready='jsonpath=there {seen}'
for _ in $(seq {READY_SECONDS * 4}); do
  if seen=$(kubectl get node {node} --ignore-not-found -o "$ready" 2>/dev/null); then
    case "$seen" in {wanted}) exit 0 ;; there*) absent=0 ;; *) absent=$((absent + 1)) ;; esac
    [ "$absent" -lt {enough * 4} ] || {{ echo absent; exit 0; }}
  fi
  sleep 0.25
done
kubectl describe node {node} >&2
echo "node {name} was not Ready{f" at {address}" if address else ""} after {READY_SECONDS} s; see journalctl -u k3s on it" >&2
exit 1
"""


def leave_script(name: str, fellows: Sequence[str] = ()) -> str:
    """Run on a server: removes node `name` from the cluster; with `fellows`, the other servers, not before one of them is Ready.

    Its pods go with it. Kubernetes itself leaves them for a minute, and callers are sent to them all that time: `podGCController` waits
    for 40 seconds whether the node comes back. Not by force: k3s's ServiceLB, which gives gateways their addresses, is told of pods that
    end, and of none that is gone at once (`onChangePod` in its pkg/cloudprovider/servicelb.go).
    """
    node = shlex.quote(name)
    remove = f"""\
kubectl delete node {node} --ignore-not-found --timeout=30s || exit
exec kubectl delete pods -A --field-selector spec.nodeName={node} --wait=false
"""
    if not fellows:
        return remove
    return f"""\
set -u
for fellow in {" ".join(map(shlex.quote, fellows))}; do
  ready=$(kubectl get node "$fellow" -o 'jsonpath={{.status.conditions[?(@.type=="Ready")].status}}' 2>/dev/null)
  [ "$ready" = True ] || continue
{textwrap.indent(remove, "  ")}done
echo {node}" is the last server that is Ready, and has the cluster's data: the others have to join it before it may go." \\
  "Servers can only be replaced one at a time" >&2
exit 1
"""
