"""Ends `up`: calls between pods and VMs, both ways, or a failure that says which did not go through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import pulumi

from actions.registry import PROVE
from components.action import run
from components.cluster.access import ClusterAccess
from components.machines.machine import Machine
from components.samples.helloworld import CLIENT, PORT, SERVICE, Helloworld
from components.workloads.vm_member import VmMember


class Call(TypedDict):
    """One VM to prove: its Service, called from a pod, and helloworld called from the VM."""

    machine: Machine
    member: VmMember
    service_url: str
    """The VM's Service inside the mesh: `http://app.vmns.svc:8000`."""


class ProofOfTrafficArgs(TypedDict):
    """What is to be proven."""

    cluster: ClusterAccess
    samples: Helloworld
    namespace: str
    """Where the sample runs."""
    calls: Sequence[Call]


class ProofOfTraffic(pulumi.ComponentResource):
    """Real calls, made again whenever something they depend on has changed."""

    evidence: pulumi.Output[str]
    """What was seen, a JSON list with one entry a call."""

    def __init__(self, name: str, args: ProofOfTrafficArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        """Call; done when every call was answered through sidecars."""
        super().__init__("istio-vms:samples:ProofOfTraffic", name, None, opts)
        proven = run(
            f"{name}-calls",
            PROVE,
            {
                "kubeconfig": args["cluster"].kubeconfig,
                "caller": {"namespace": args["namespace"], "selector": f"app={CLIENT}", "container": CLIENT},
                "calls": [
                    {
                        "vm": call["machine"].machine_name,
                        "ssh": call["machine"].connection,
                        "workload_entry": call["member"].workload_entry,
                        "pod_to_vm": call["service_url"],
                        "vm_to_mesh": f"http://{SERVICE}.{args['namespace']}.svc:{PORT}",
                    }
                    for call in args["calls"]
                ],
            },
            pulumi.ResourceOptions(
                parent=self,
                depends_on=[*args["samples"].running, *(call["member"] for call in args["calls"])],
                deleted_with=args["cluster"].made_by,
            ),
            # A member that was joined again has the same name and address, yet what was seen of it is out of date.
            replace_on=[call["member"].connected_at for call in args["calls"]],
        )
        self.evidence = pulumi.Output.unsecret(proven.resource.stdout)
        self.register_outputs({"evidence": self.evidence})
