"""What VMs are told of a mesh, read from a cluster, and somebody who is told: a file that gets a line whenever that changes."""

import pulumi
import pulumi_command as command
import pulumi_kubernetes as k8s

from actions.registry import GATEWAY_ADDRESSES, MESH_CONFIG, ROOT_CERTIFICATE
from components.action import run

config = pulumi.Config()
kubeconfig = config.require("kubeconfig")
provider = k8s.Provider("cluster", kubeconfig=kubeconfig)
about = {"kubeconfig": pulumi.Output.secret(kubeconfig), "namespace": config.require("namespace")}
documents = {
    ROOT_CERTIFICATE: about,
    MESH_CONFIG: {**about, "revision": "1-32"},
    GATEWAY_ADDRESSES: {**about, "service": "gateway", "ports": {"tls-istiod": 15013}, "timeout_seconds": 5},
}


def verb(action):
    return action.name.partition(".")[2]


readings = {
    verb(action): run(verb(action), action, document, pulumi.ResourceOptions())
    for action, document in documents.items()
}
told = pulumi.Output.all(**{name: reading.result for name, reading in readings.items()})
member = command.local.Command(
    "member",
    create=f"(cat; echo) | tee -a {config.require('log')}",
    delete=f"echo left >> {config.require('log')}",
    stdin=pulumi.Output.json_dumps(pulumi.Output.unsecret(told)),
)
pulumi.export("told", member.stdout)
