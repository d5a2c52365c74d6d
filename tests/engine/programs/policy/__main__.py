"""What keeps or breaks each policy, by the stack's setting `case`. Nothing of it needs a cluster or a host as long as it is previewed."""

import pulumi
import pulumi_command as command
import pulumi_kubernetes as kubernetes

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPLfS2V45kklTI2FK4LcmwuZNt8L8XXzSBe2GISG6PIH"


def everything(*, right: bool) -> None:
    """For each policy a resource that it is about, named after it: as it should be, or not."""
    cluster = a_cluster()
    command.local.Command(
        "plaintext-secrets", create="deploy", environment={"DB_PASSWORD": "$SECRET" if right else "hunter2"}
    )
    strict = {"mtls": {"mode": "STRICT" if right else "PERMISSIVE"}}
    kubernetes.apiextensions.CustomResource(
        "mtls-strict",
        api_version="security.istio.io/v1",
        kind="PeerAuthentication",
        metadata={"name": "default", "namespace": "istio-system" if right else "elsewhere"},
        spec=strict,
        opts=cluster,
    )
    url = "https://example.com/app-1.2.3.tar.gz"
    fetch = f"curl -fsSLO {url}" + (" && sha256sum -c app.sums" if right else "")
    command.local.Command("pinned-versions", create=fetch)
    host = "helloworld.sample.svc.cluster.local" if right else "*.local"
    kubernetes.apiextensions.CustomResource(
        "east-west-exposure",
        api_version="networking.istio.io/v1",
        kind="Gateway",
        spec={
            "selector": {"istio": "eastwestgateway"},
            "servers": [{"port": {"number": 15443}, "tls": {"mode": "AUTO_PASSTHROUGH"}, "hosts": [host]}],
        },
        opts=cluster,
    )
    amounts = {"cpu": "100m", "memory": "64Mi"}
    container = {
        "name": "app",
        "image": "app:1.2.3",
        **({"resources": {"requests": amounts, "limits": amounts}} if right else {}),
    }
    kubernetes.apps.v1.Deployment(
        "workload-resources",
        spec={
            "selector": {"match_labels": {"app": "app"}},
            "template": {"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [container]}},
        },
        opts=cluster,
    )
    connection = {"host": "10.0.0.1", "user": "ubuntu", **({"host_key": HOST_KEY} if right else {})}
    command.remote.Command("pinned-host-keys", connection=connection, create="true")
    if right:
        as_a_whole(cluster)
        machine("prod-vm-1")


def as_a_whole(cluster: pulumi.ResourceOptions) -> None:
    """What the policies about a stack as a whole ask for something else of: istiod, for a PeerAuthentication of the mesh."""
    kubernetes.helm.v3.Release("istiod", chart="istiod", version="1.30.3", opts=cluster)


def a_cluster() -> pulumi.ResourceOptions:
    """A cluster that is not known in a preview."""
    later = command.local.Command("later", create="cat /dev/null").stdout
    return pulumi.ResourceOptions(provider=kubernetes.Provider("cluster", kubeconfig=later))


def machine(name: str, *, size: int = 1, disk: int = 1) -> None:
    """A machine as components/machines/machine.py declares it: another disk replaces it, another size does not."""
    owner = pulumi.ComponentResource("istio-vms:machines:Machine", name)
    command.local.Command(
        f"{name}-machine",
        create=f"true {size}",
        update=f"true {size}",
        triggers=[disk],
        opts=pulumi.ResourceOptions(parent=owner),
    )


match pulumi.Config().require("case"):
    case "keeps":
        everything(right=True)
    case "breaks":
        everything(right=False)
    case "breaks as a whole":
        as_a_whole(a_cluster())
    case "machines":
        for name in ("vm-1", "vm-2", "vm-3", "vm-4"):
            machine(name)
    case "changed machines":
        machine("vm-1", size=2)
        machine("vm-2", disk=2)
        machine("vm-4")
    case "a secret":
        command.local.Command("leak", create="true --password hunter2", delete="true")
    case other:
        raise ValueError(other)
