"""`python3 -m components.mesh gateway-addresses|root-certificate|mesh-config|reinject`: JSON on stdin and stdout, progress on stderr.

All but the last only read the world, so that whoever has an answer can have it compared with the world of now: `ops/readings.py`.
"""

from __future__ import annotations

import sys
from typing import Any

from components.command_line import Progress, Verb, main
from components.kube import ApiCluster
from components.mesh import addresses, published
from components.mesh import reinject as restarts


def gateway_addresses(request: addresses.AddressesRequest, progress: Progress) -> dict[str, Any]:
    """Read the addresses of a gateway's Service."""
    return addresses.gateway_addresses(request, ApiCluster(request.kubeconfig), progress)


def root_certificate(request: published.RootCertificateRequest, progress: Progress) -> dict[str, Any]:
    """Read the mesh's root certificate."""
    return published.read_root_certificate(request, ApiCluster(request.kubeconfig), progress)


def mesh_config(request: published.MeshConfigRequest, progress: Progress) -> dict[str, Any]:
    """Read the mesh's configuration, as far as it concerns VMs."""
    return published.read_mesh_config(request, ApiCluster(request.kubeconfig), progress)


def reinject(request: restarts.ReinjectRequest, progress: Progress) -> dict[str, Any]:
    """Restart what has pods without a sidecar of the mesh's revision."""
    return restarts.reinject(request, ApiCluster(request.kubeconfig), progress)


VERBS = {
    "gateway-addresses": Verb(addresses.AddressesRequest, gateway_addresses),
    "root-certificate": Verb(published.RootCertificateRequest, root_certificate),
    "mesh-config": Verb(published.MeshConfigRequest, mesh_config),
    "reinject": Verb(restarts.ReinjectRequest, reinject),
}

if __name__ == "__main__":
    sys.exit(main("components.mesh", VERBS, sys.argv[1:]))
