"""`python3 -m components.workloads join|leave`: JSON on stdin and stdout, progress on stderr."""

from __future__ import annotations

import sys
from typing import Any

from components.command_line import Progress, Verb, main
from components.kube import ApiCluster
from components.workloads import join as joining
from components.workloads.vm import Vm


def join(request: joining.JoinRequest, progress: Progress) -> dict[str, Any]:
    """Make the machine a member; returns once it is a healthy one."""
    with Vm(request.ssh) as vm:
        return joining.Join(request, ApiCluster(request.kubeconfig), vm, progress).run()


def leave(request: joining.JoinRequest, progress: Progress) -> dict[str, Any]:
    """Take the machine out of the mesh, as far as it and the cluster can be reached."""
    with Vm(request.ssh) as vm:
        return joining.leave(request, ApiCluster(request.kubeconfig), vm, progress)


VERBS = {"join": Verb(joining.JoinRequest, join), "leave": Verb(joining.JoinRequest, leave)}

if __name__ == "__main__":
    sys.exit(main("components.workloads", VERBS, sys.argv[1:]))
