"""Objects and Helm releases on a cluster, all of them named in the configuration."""

import pulumi
import pulumi_command as command
import pulumi_kubernetes as k8s

KINDS = {
    "ConfigMap": k8s.core.v1.ConfigMap,
    "ConfigGroup": k8s.yaml.v2.ConfigGroup,
    "CustomResource": k8s.apiextensions.CustomResource,
    "CustomResourceDefinition": k8s.apiextensions.v1.CustomResourceDefinition,
    "Deployment": k8s.apps.v1.Deployment,
    "Namespace": k8s.core.v1.Namespace,
    "Secret": k8s.core.v1.Secret,
    "Service": k8s.core.v1.Service,
    "ServiceAccount": k8s.core.v1.ServiceAccount,
}

config = pulumi.Config()
kubeconfig = config.require("kubeconfig")
if nonce := config.get("nonce"):
    # A kubeconfig that some other resource makes: not known in a preview that changes that resource.
    made = command.local.Command("made", create="cat", stdin=kubeconfig, environment={"NONCE": nonce}, logging="none")
    kubeconfig = made.stdout
provider = k8s.Provider("cluster", kubeconfig=pulumi.Output.secret(kubeconfig), **(config.get_object("provider") or {}))
timeouts = pulumi.CustomTimeouts(create=config.get("timeout"), update=config.get("timeout"))
last: list[pulumi.Resource] = []
for name, (kind, inputs) in (config.get_object("objects") or {}).items():
    last = [
        KINDS[kind](
            name, **inputs, opts=pulumi.ResourceOptions(provider=provider, depends_on=last, custom_timeouts=timeouts)
        )
    ]
for name, inputs in (config.get_object("releases") or {}).items():
    if secret := config.get("secret"):
        inputs["values"] = {**inputs.get("values", {}), "text": pulumi.Output.secret(secret)}
    k8s.helm.v3.Release(name, **inputs, opts=pulumi.ResourceOptions(provider=provider))
if reads := config.get("reads"):
    found = k8s.core.v1.ConfigMap.get("found", reads, opts=pulumi.ResourceOptions(provider=provider))
    pulumi.export("found", found.data)
