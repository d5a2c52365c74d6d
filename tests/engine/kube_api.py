"""A real Kubernetes API for tests: k3s without a node."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

from tests.engine.harness import tool, until

START_SECONDS = 90


@dataclass
class KubeApi:
    """The API server, and clients for it."""

    kubeconfig: str
    core: Any
    apps: Any
    custom: Any

    @classmethod
    @contextmanager
    def started(cls, folder: Path) -> Iterator[KubeApi]:
        """Run k3s in `folder`, on a free port of the loopback."""
        kubeconfig = folder / "kubeconfig"
        command = [
            os.environ.get("ISTIO_VMS_K3S") or tool("k3s"),
            "server",
            "--disable-agent",
            "--disable-cloud-controller",
            "--disable-helm-controller",
            "--disable-kube-proxy",
            "--disable-network-policy",
            "--disable=coredns,local-storage,metrics-server,servicelb,traefik",
            "--flannel-backend=none",
            # Their usual ports may be taken by another k3s of this host, and nobody asks them here.
            "--kube-controller-manager-arg=secure-port=0",
            "--kube-scheduler-arg=secure-port=0",
            "--bind-address=127.0.0.1",
            f"--https-listen-port={free_port()}",
            f"--data-dir={folder / 'data'}",
            f"--write-kubeconfig={kubeconfig}",
            "--write-kubeconfig-mode=0600",
        ]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            until(kubeconfig.exists, START_SECONDS, f"k3s: see {folder / 'log'}")
            api = cls._connected(kubeconfig)
            until(api._answers, START_SECONDS, f"the Kubernetes API: see {folder / 'log'}")
            yield api
        finally:
            process.terminate()
            process.wait(30)

    @classmethod
    def _connected(cls, kubeconfig: Path) -> KubeApi:
        load: Any = config.new_client_from_config
        connection = load(str(kubeconfig))
        return cls(
            kubeconfig.read_text(),
            client.CoreV1Api(connection),
            client.AppsV1Api(connection),
            client.CustomObjectsApi(connection),
        )

    def _answers(self) -> bool:
        try:
            return bool(self.core.read_namespace("default"))
        except (client.ApiException, urllib3.exceptions.HTTPError):
            return False

    def make_namespace(self) -> str:
        """A namespace that no other test uses."""
        name = f"test-{secrets.token_hex(4)}"
        self.core.create_namespace({"metadata": {"name": name}})
        return name

    def exists(self, read: Any, *arguments: str) -> bool:
        """Whether a `read_…` call of one of the clients finds its object."""
        try:
            read(*arguments)
        except client.ApiException as error:
            if error.status == 404:
                return False
            raise
        return True


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
