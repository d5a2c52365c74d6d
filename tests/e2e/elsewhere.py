"""A cluster and a host that somebody else made, and everything about both that a stack on them has to leave as it found it."""

from __future__ import annotations

import json
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from actions import ssh
from actions.artifacts import MachineArtifact
from actions.cluster.k3s_files import NodeSpec, node_script
from actions.kube import ApiCluster
from actions.machines import cloud_init
from actions.machines.keys import make_pair
from actions.samples.application import sample_application

OWNER = "istio-vms/elsewhere"
MOUNT = "/opt/istio-vms"
# Objects that change by themselves, and what a kubelet tells of its node.
_OF_THE_MOMENT = {"events", "leases", "componentstatuses"}

# What a host is, a line for each thing. Left out: package lists, caches, logs, the package manager's own books (its packages are listed),
# backup copies of system tools (`passwd-`), the lock that every iptables leaves in /run, and what systemd notes of its timers.
_HOST = r"""
dpkg-query -W -f 'package ${Package} ${Version} ${db:Status-Status}\n'
apt-mark showmanual | sed 's/^/asked for /'
getent passwd | sed 's/^/user /'; getent group | sed 's/^/group /'
systemctl list-unit-files --no-legend --no-pager | awk '{print "unit", $1, $2}'
systemctl list-units --no-legend --no-pager --plain --type=service,socket,timer --state=active,failed |
  awk '$1 !~ /^(session|user|run-)|apt-daily|e2scrub|fstrim|dpkg-db|systemd-tmpfiles|logrotate|man-db/ {print "active", $1, $3}'
find /etc /usr/local /usr/lib/systemd /lib/systemd /var/lib /opt /root /home /srv -xdev \
  \( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/systemd -o -path /var/lib/cloud -o -path /opt/istio-vms \) -prune -o \
  ! -name '*-' -printf 'path %y %m %u:%g %p %l\n'
find /etc /usr/local /var/lib /root /home -xdev \
  \( -path /var/lib/dpkg -o -path /var/lib/apt -o -path /var/lib/systemd -o -path /var/lib/cloud \) -prune -o \
  -type f ! -name '*-' -print0 | sort -z | xargs -0 sha256sum | sed 's/^/file /'
find /run -mindepth 1 -maxdepth 1 ! -name xtables.lock -printf 'run %f\n'
ls -a /run/secrets 2>/dev/null | sed 's/^/run secrets /'
for table in raw mangle nat filter; do iptables -t $table -S | grep -v '^-P' | sed "s/^/rule $table /"; done
ip route show table all | sed 's/^/route /'; ip rule | sed 's/^/ip rule /'
ours='ps -eo|sshd|bash|sudo|sort|\(sd-pam|(/usr)?/lib/systemd/systemd --user|systemctl|timeout|sed|awk|grep|head'
ps -eo user:32,args | grep -vE " (\[|$ours)" | sed 's/^/process /'
"""


class Elsewhere:
    """Machines of another owner: `node` with a single-node k3s, and `host` with an application of its own."""

    def __init__(self, settings: Mapping[str, Any], cidr: str) -> None:
        """Make both.

        Args:
            settings: tables of the lab's stack, for the artifacts.
            cidr: a network that nobody else on this machine uses.
        """
        self._settings, self._cidr = settings, cidr
        self.private_key, self._public_key = make_pair()
        self.delete()
        files, start = sample_application("external-app", (8000,), "vm")
        self.node = self._make("elsewhere-node", 3072, (), ())
        self.host = self._make("elsewhere-host", 2560, files, start)
        self._admin = self._k3s()
        self.cluster = ApiCluster(self._admin)

    def delete(self) -> None:
        """Remove them, also those of a run that died."""
        for name in ("elsewhere-node", "elsewhere-host"):
            self._driver("delete", {"name": name})

    def on(self, machine: Mapping[str, Any], script: str) -> str:
        """What a script prints as root."""
        target = (machine["address"], machine["port"], "ubuntu", self.private_key, machine["host_key"])
        with ssh.connect(*target) as session:
            return session.run(script)

    def operator(self, name: str) -> str:
        """The kubeconfig of a new administrator of the cluster, with a token; context `elsewhere`."""
        account = {"kind": "ServiceAccount", "name": name, "namespace": "default"}
        role = {"kind": "ClusterRole", "name": "cluster-admin", "apiGroup": "rbac.authorization.k8s.io"}
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        self.cluster.create(accounts, {"metadata": {"name": name}})
        self.cluster.create(
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            {"metadata": {"name": name}, "roleRef": role, "subjects": [account]},
        )
        token = self.cluster.create(f"{accounts}/{name}/token", {"spec": {"expirationSeconds": 3600}})["status"][
            "token"
        ]
        config = yaml.safe_load(self._admin)
        config["users"] = [{"name": name, "user": {"token": token}}]
        config["contexts"] = [{"name": "elsewhere", "context": {"cluster": "default", "user": name}}]
        return yaml.safe_dump(config | {"current-context": "elsewhere"})

    def dismiss(self, name: str) -> None:
        """Make an administrator's token worthless."""
        self.cluster.delete(f"/api/v1/namespaces/default/serviceaccounts/{name}")
        self.cluster.delete(f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{name}")

    def host_state(self) -> set[str]:
        """A line for each thing on the host."""
        return set(self.on(self.host, _HOST).splitlines())

    def settled_state(self) -> dict[str, str]:
        """Every object by its path, once no controller has changed one for five seconds."""
        end, state, since = time.monotonic() + 60, self.cluster_state(), time.monotonic()
        while time.monotonic() < since + 5:
            assert time.monotonic() < end, "the cluster does not come to rest"
            time.sleep(1)
            if (now := self.cluster_state()) != state:
                state, since = now, time.monotonic()
        return state

    def cluster_state(self) -> dict[str, str]:
        """Every object by its path, without what changes by itself."""
        found: dict[str, str] = {}
        groups = [f"/apis/{g['preferredVersion']['groupVersion']}" for g in self._get("/apis")["groups"]]
        for base in ("/api/v1", *groups):
            for kind in self._get(base)["resources"]:
                if "/" not in kind["name"] and "list" in kind["verbs"] and kind["name"] not in _OF_THE_MOMENT:
                    found |= {
                        f"{base}/{kind['name']} {one['metadata'].get('namespace', '')}/{one['metadata']['name']}": _lasting(
                            kind["name"], one
                        )
                        for one in self.cluster.items(f"{base}/{kind['name']}")
                    }
        return found

    def _get(self, path: str) -> Mapping[str, Any]:
        found = self.cluster.get(path)
        assert found is not None, path
        return found

    def _make(self, name: str, memory: int, files: tuple[cloud_init.File, ...], commands: tuple[str, ...]) -> Any:
        machines = self._settings["machines"]
        user_data = cloud_init.CloudInit(name, "ubuntu", (self._public_key,), files=files, commands=commands)
        state = self._driver(
            "ensure",
            {
                "name": name, "cpus": 2, "memory_mib": memory, "disk_gib": 10, "image": str(Path(machines["image"]).expanduser()),
                "user": "ubuntu", "user_data": cloud_init.render(user_data), "network": {"name": "elsewhere", "cidr": self._cidr},
                "mounts": [{"source": str(Path(m["source"]).expanduser()), "target": m["target"]} for m in machines["mounts"]],
            },
        )  # fmt: skip
        wait = "until [ -e /var/lib/cloud/instance/boot-finished ]; do sleep 0.2; done"
        self.on(state, wait)
        return state

    def _k3s(self) -> str:
        """A k3s that has nothing to do with the stack; its kubeconfig."""
        wanted, folder = self._settings["cluster"], self._settings["machines"]["mounts"][0]["source"]

        def artifact(table: Mapping[str, Any]) -> MachineArtifact:
            return MachineArtifact(path=table["path"].replace(folder, MOUNT))

        spec = NodeSpec(
            name="elsewhere-node", role="server", address=self.node["address"], join="",
            version=wanted["version"], binary=artifact(wanted["binary"]), pod_cidr="10.44.0.0/16", service_cidr="10.45.0.0/16",
            tools=artifact(wanted["tools"]), images=tuple(artifact(image) for image in wanted["images"]),
            disable=tuple(wanted["disable"]), config=wanted["config"], service_options=wanted["serviceOptions"],
            containerd_template=wanted["containerdTemplate"],
        )  # fmt: skip
        text = self.on(self.node, f"token={secrets.token_hex(16)}\n{node_script(spec)}")
        ready = "until kubectl -n kube-system rollout status deployment/coredns --timeout=60s; do sleep 0.5; done >/dev/null 2>&1"
        self.on(self.node, f"timeout 120 bash -c {shlex.quote(ready)}")
        return text.replace("https://127.0.0.1:6443", f"https://{self.node['address']}:6443")

    def _driver(self, verb: str, document: Mapping[str, Any]) -> Any:
        request = {"driver": "nspawn", "owner": OWNER, "options": {}, **document}
        command = [sys.executable, "-m", "actions", f"machines.{verb}"]
        ran = subprocess.run(command, input=json.dumps(request), stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(ran.stdout)


def _lasting(kind: str, one: Mapping[str, Any]) -> str:
    kept = {key: value for key, value in one.items() if key != "status" or kind != "nodes"}
    kept["metadata"] = {
        key: value for key, value in one["metadata"].items() if key not in ("resourceVersion", "managedFields")
    }
    return json.dumps(kept, sort_keys=True)
