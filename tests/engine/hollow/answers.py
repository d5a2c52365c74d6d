"""The stand-ins' ways to the world, replaced by answers such as it would give.

With a kubeconfig in the environment, objects are really made in the API server that it leads to; none is waited for, as there is no node.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

from lab.plugins.command.local import LocalCommand
from lab.plugins.kubernetes import helm, objects
from lab.plugins.process import Finished
from lab.plugins.provider import Call
from lab.plugins.values import Properties, plain

PRIVATE_KEY = "PRIVATE-e21a7c50\nof two lines\n"
TOKEN = "TOKEN-9b04d3f7"
KUBECONFIG = """\
apiVersion: v1
kind: Config
current-context: c
clusters: [{name: c, cluster: {server: https://127.0.0.1:6443}}]
users: [{name: u, user: {token: hunter2}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
"""
REAL_KUBECONFIG = "HOLLOW_KUBECONFIG"
"""The variable that has the kubeconfig of a real API server, as a text."""
ALWAYS: Mapping[str, Any] = {
    "machines.make-secrets": {"private_key": PRIVATE_KEY, "public_key": "ssh-ed25519 AAAA", "token": TOKEN},
    "machines.delete": {},
    "mesh.reinject": {"restarted": []},
    "mesh.root-certificate": {"root_certificate": "-----BEGIN CERTIFICATE-----"},
    "mesh.mesh-config": {"trust_domain": "cluster.local", "mesh_id": "mesh1", "proxy_config": {}},
    "samples.prove": [],
    "workloads.leave": {},
}
"""Commands whose answer does not depend on what they read."""
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7x0hWv5S7cUV9yQpZ2j6mN3r8tB1oK4uY5wE6qA7sD"


def _local(self: LocalCommand, call: Call, script: str, inputs: Properties, environment: Mapping[str, str]) -> Finished:
    if script.startswith("echo "):
        return _ended(script.removeprefix("echo "))
    read = json.loads(inputs.get("stdin") or "{}")
    return _ended(json.dumps(_answer(script.removeprefix("actions/run "), read)))


def _answer(command: str, read: Any) -> Any:
    match command:
        case "machines.ensure" | "machines.update":
            name = read["name"]
            address = f"10.89.0.{zlib.crc32(name.encode()) % 200 + 10}"
            return {
                "name": name,
                "address": address,
                "port": 22,
                "user": "ubuntu",
                "state": "running",
                "host_key": HOST_KEY,
            }
        case "cluster.begin" | "cluster.install":
            return {"kubeconfig": os.environ.get(REAL_KUBECONFIG, KUBECONFIG).removesuffix("\n")}
        case "cluster.member":
            return {"node": read["node"]}
        case "mesh.gateway-addresses":
            return {"addresses": ["10.89.0.11", "10.89.0.12"], "ports": read["ports"]}
        case "workloads.join":
            member = read["member"]
            entry = f"{member['workload']}-{member['address']}"
            return {
                "workload_entry": entry,
                "namespace": member["namespace"],
                "address": member["address"],
                "healthy": True,
                "connected_at": "now",
            }
        case _:
            assert command in ALWAYS, f"there is no answer to {command}"
            return ALWAYS[command]


def _ended(printed: str) -> Finished:
    return Finished(0, "exit code 0", printed, "", printed)


def _create_object(self: objects.Objects, call: Call, inputs: Properties) -> tuple[str, Properties]:
    if call.preview:
        return "", inputs
    live = objects.to_cluster(inputs)
    metadata = live["metadata"]
    return f"{metadata.get('namespace', '')}/{metadata['name']}".lstrip("/"), objects._checkpoint(
        inputs, live, "hollow"
    )


def _as_it_is(self: objects.Objects, call: Call, live: objects.Object) -> objects.Object:
    return live


def _create_release(self: helm.Releases, call: Call, inputs: Properties) -> tuple[str, Properties]:
    if call.preview:
        return "", helm._previewed(inputs)
    release = plain(inputs)
    said = {
        "name": release["name"],
        "namespace": release["namespace"],
        "version": release["version"],
        "chart": release["chart"],
    }
    return helm._id(release), helm._state(inputs, {**said, "revision": 1, "status": "deployed", "resourceNames": {}})


def _chart_version(self: helm.Releases, call: Call, release: Properties) -> str:
    """Every version that is asked for is there; a chart in a folder has its own."""
    return release.get("version") or "1.0.0"


def replace() -> None:
    """Make the stand-ins of this process hollow. A state is made by creating only, so nothing else is replaced."""
    LocalCommand.execute = _local
    if REAL_KUBECONFIG in os.environ:
        objects.Objects._ready = _as_it_is
    else:
        objects.Objects.create = _create_object
    helm.Releases.create = _create_release
    helm.Releases._chart_version = _chart_version
