"""What VMs are told of a mesh, read from a cluster, and somebody who is told: a file that gets a line whenever that changes."""

import pulumi
import pulumi_command as command
import pulumi_kubernetes as k8s

from components.local_command import answer, run_module

config = pulumi.Config()
kubeconfig = config.require("kubeconfig")
provider = k8s.Provider("cluster", kubeconfig=kubeconfig)
about = {"kubeconfig": pulumi.Output.secret(kubeconfig), "namespace": config.require("namespace")}
documents = {
    "root-certificate": about,
    "mesh-config": {**about, "revision": "1-32"},
    "gateway-addresses": {**about, "service": "gateway", "ports": {"tls-istiod": 15013}, "timeout_seconds": 5},
}
readings = {
    verb: run_module(verb, "components.mesh", verb, document, pulumi.ResourceOptions())
    for verb, document in documents.items()
}
told = pulumi.Output.all(**{verb: answer(reading) for verb, reading in readings.items()})
member = command.local.Command(
    "member",
    create=f"(cat; echo) | tee -a {config.require('log')}",
    delete=f"echo left >> {config.require('log')}",
    stdin=pulumi.Output.json_dumps(pulumi.Output.unsecret(told)),
)
pulumi.export("told", member.stdout)
