"""The environment: machines, a k3s cluster on them, Istio with its gateways, and VMs that are members of the mesh."""

import pulumi

from components import environment as env
from components import settings as stack_settings

settings = stack_settings.load()

key = env.ssh_key(settings)
machines = env.Machines(settings, key)
cluster = env.cluster(settings, machines, key)
mesh = env.mesh(settings, cluster)
workloads = env.workloads(settings, machines, cluster, mesh)
policies = env.policies(settings, cluster, mesh, workloads)
proof = env.proof(settings, cluster, mesh, workloads, policies)

pulumi.export("kubeconfig", cluster.kubeconfig)
pulumi.export("sshPrivateKey", key.private_key)
pulumi.export("machines", machines.exports())
pulumi.export("gateways", mesh.exports())
pulumi.export("vms", workloads.exports())
pulumi.export("proof", proof)
pulumi.export("settings", pulumi.Output.secret(settings.as_documents()))
