"""Rewrites the golden files: runs the real istioctl against a real API server, once per `golden/*/member.json`.

    python3 tests/unit/workloads/regenerate_golden.py --istioctl … --k3s … --helm … --istiod-chart …/istio-discovery

Needs root (k3s wants it) and loopback only: k3s runs as an API server without nodes, in a temporary folder, for seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[3]))

from actions.kube import ApiCluster, Cluster, KubeError, wait
from actions.protocol import Deadline
from actions.workloads.files import MemberSpec

GOLDEN = Path(__file__).with_name("golden")
API_PORT = 36443
"""The one after it is k3s's own, too; the second one after is its controller manager's, as another k3s may run here."""


def main() -> None:
    """Regenerate every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for tool in ("istioctl", "k3s", "helm", "istiod-chart"):
        parser.add_argument(f"--{tool}", required=True, type=Path)
    tools = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, api_server(tools.k3s, Path(scratch)) as kubeconfig:
        cluster = ApiCluster(kubeconfig.read_text())
        for case in sorted(path.parent for path in GOLDEN.glob("*/member.json")):
            spec = MemberSpec.model_validate_json((case / "member.json").read_text())
            prepare(cluster, spec, istiod_config_maps(tools.helm, tools.istiod_chart, spec))
            configure(tools.istioctl, kubeconfig, spec, Path(scratch) / case.name)
            for name in ("cluster.env", "mesh.yaml", "hosts"):
                shutil.copyfile(Path(scratch) / case.name / name, case / name)
            print(f"{case.name}: written")


@contextlib.contextmanager
def api_server(k3s: Path, scratch: Path) -> Iterator[Path]:
    """An API server on loopback; the path of its kubeconfig."""
    kubeconfig, log = scratch / "kubeconfig", scratch / "k3s.log"
    command = [
        k3s, "server", "--disable-agent", f"--data-dir={scratch / 'k3s'}", f"--write-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1", f"--https-listen-port={API_PORT}", "--flannel-backend=none", "--disable-network-policy",
        "--disable-helm-controller", "--disable-cloud-controller", "--disable-scheduler", "--disable-kube-proxy",
        f"--kube-controller-manager-arg=secure-port={API_PORT + 2}", "--disable=coredns,servicelb,traefik,local-storage,metrics-server",
    ]  # fmt: skip
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as server:
        try:

            def look() -> str | None:
                return (
                    None if server.poll() is None and kubeconfig.exists() and _namespaces(kubeconfig) else "not ready"
                )

            if wait(look, Deadline(60)):
                raise SystemExit(f"k3s did not start:\n{log.read_text()[-2000:]}")
            yield kubeconfig
        finally:
            server.terminate()


def _namespaces(kubeconfig: Path) -> bool:
    return ApiCluster(kubeconfig.read_text()).get("/api/v1/namespaces/default") is not None


def istiod_config_maps(helm: Path, chart: Path, spec: MemberSpec) -> list[dict[str, Any]]:
    """What the istiod chart makes of the mesh that the member belongs to, as far as istioctl reads it."""
    values = {
        "revision": spec.revision,
        "global": {"meshID": spec.mesh_id, "multiCluster": {"clusterName": spec.cluster_id}},
        "meshConfig": {"trustDomain": spec.trust_domain, "defaultConfig": spec.mesh_proxy_config},
    }
    rendered = subprocess.run(
        [helm, "template", "istiod", chart, "--namespace", spec.istiod_namespace, "--values", "-"],
        input=json.dumps(values), capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [document for document in yaml.safe_load_all(rendered) if document and document["kind"] == "ConfigMap"]


def prepare(cluster: Cluster, spec: MemberSpec, config_maps: list[dict[str, Any]]) -> None:
    """The objects istioctl reads, recreated."""
    root = {"metadata": {"name": "istio-ca-root-cert"}, "data": {"root-cert.pem": "not read by this test\n"}}
    for namespace, kind, body in (
        ("", "namespaces", {"metadata": {"name": spec.istiod_namespace}}),
        ("", "namespaces", {"metadata": {"name": spec.namespace}}),
        (spec.namespace, "serviceaccounts", {"metadata": {"name": spec.service_account}}),
        (spec.namespace, "configmaps", root),
        *((spec.istiod_namespace, "configmaps", document) for document in config_maps),
    ):
        collection = f"/api/v1/namespaces/{namespace}/{kind}" if namespace else f"/api/v1/{kind}"
        if kind == "configmaps":
            cluster.delete(f"{collection}/{body['metadata']['name']}")
        with contextlib.suppress(KubeError):  # a namespace or an account is there from the case before
            cluster.create(collection, body)


def configure(istioctl: Path, kubeconfig: Path, spec: MemberSpec, output: Path) -> None:
    """Run `istioctl x workload entry configure` as its documentation says, without `--clusterID`: istiod's own is to be found."""
    output.mkdir()
    annotations = {"proxy.istio.io/config": yaml.safe_dump(spec.proxy_config)} if spec.proxy_config else {}
    group = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadGroup",
        "metadata": {"name": spec.workload, "namespace": spec.namespace},
        "spec": {
            "metadata": {"labels": spec.labels, "annotations": annotations},
            "template": {"ports": spec.ports, "serviceAccount": spec.service_account, "network": spec.network},
            **({"probe": spec.probe} if spec.probe else {}),
        },
    }
    (output / "group.yaml").write_text(yaml.safe_dump(group))
    command = [
        istioctl, "x", "workload", "entry", "configure", "--kubeconfig", kubeconfig, "--istioNamespace", spec.istiod_namespace,
        "-f", output / "group.yaml", "-o", output, "--autoregister", "--revision", spec.revision or "default",
        "--internalIP", spec.address, "--ingressIP", spec.gateway_addresses[0], f"--capture-dns={str(spec.dns_capture).lower()}",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
