"""`python3 -m components.cluster member|renumber|leave|claim|renew|release`: JSON on stdin and stdout, progress on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from components.cluster import claim, membership
from components.command_line import Progress, Verb, main
from components.kube import ApiCluster, Cluster


def _with_cluster(
    act: Callable[[claim.ClaimRequest, Cluster, Progress], dict[str, Any]],
) -> Callable[[claim.ClaimRequest, Progress], dict[str, Any]]:
    return lambda request, progress: act(request, ApiCluster(request.kubeconfig), progress)


VERBS = {
    "member": Verb(membership.NodeRequest, membership.member),
    "renumber": Verb(membership.RenumberRequest, membership.renumber),
    "leave": Verb(membership.NodeRequest, membership.leave),
    "claim": Verb(claim.ClaimRequest, _with_cluster(claim.claim)),
    "renew": Verb(claim.ClaimRequest, _with_cluster(claim.renew)),
    "release": Verb(claim.ClaimRequest, _with_cluster(claim.release)),
}

if __name__ == "__main__":
    sys.exit(main("components.cluster", VERBS, sys.argv[1:]))
