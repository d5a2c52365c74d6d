"""`python3 -m components.samples prove`: JSON on stdin and stdout, progress on stderr."""

from __future__ import annotations

import sys
from typing import Any

from components.command_line import Progress, Verb, main
from components.kube import ApiCluster
from components.samples import proof


def prove(request: proof.ProveRequest, progress: Progress) -> list[dict[str, Any]]:
    """Prove traffic between pods and virtual machines."""
    return proof.prove(request, ApiCluster(request.kubeconfig), progress)


VERBS = {"prove": Verb(proof.ProveRequest, prove)}

if __name__ == "__main__":
    sys.exit(main("components.samples", VERBS, sys.argv[1:]))
