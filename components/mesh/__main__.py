"""`python3 -m components.mesh gateway-addresses`: JSON on stdin and stdout, progress on stderr."""

from __future__ import annotations

import sys
from typing import Any

from components.command_line import Progress, Verb, main
from components.kube import ApiCluster
from components.mesh import addresses


def gateway_addresses(request: addresses.AddressesRequest, progress: Progress) -> dict[str, Any]:
    """Read the addresses of a gateway's Service."""
    return addresses.gateway_addresses(request, ApiCluster(request.kubeconfig), progress)


VERBS = {"gateway-addresses": Verb(addresses.AddressesRequest, gateway_addresses)}

if __name__ == "__main__":
    sys.exit(main("components.mesh", VERBS, sys.argv[1:]))
