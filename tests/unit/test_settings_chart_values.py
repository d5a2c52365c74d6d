"""Values given to the charts that contradict a setting are named with their path and the setting; others are the user's own business."""

from typing import Any

import pytest

from tests.unit.test_settings import LAB, parse, problems, put

METADATA = "meshConfig.defaultConfig.proxyMetadata"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("istiod.meshConfig.trustDomain", "corp.example", "contradicts mesh.trustDomain, which is cluster.local"),
        (f"istiod.{METADATA}.TRUST_DOMAIN", "corp.example", "contradicts mesh.trustDomain"),
        ("istiod.meshConfig.defaultConfig.meshId", "other", "contradicts mesh.meshId, which is mesh1"),
        ("istiod.global.meshID", "other", "contradicts mesh.meshId"),
        (f"istiod.{METADATA}.ISTIO_META_MESH_ID", "other", "contradicts mesh.meshId"),
        ("istiod.global.multiCluster.clusterName", "other", "contradicts mesh.clusterName, which is cluster1"),
        ("istiod.env.CLUSTER_ID", "other", "contradicts mesh.clusterName"),
        (f"istiod.{METADATA}.ISTIO_META_CLUSTER_ID", "other", "contradicts mesh.clusterName"),
        ("istiod.global.network", "other", "contradicts mesh.network, which is cluster-network"),
        (f"istiod.{METADATA}.ISTIO_META_NETWORK", "other", "contradicts mesh.network"),
        ("istiod.global.hub", "quay.io/x", "contradicts mesh.hub, which is docker.io/istio"),
        ("istiod.hub", "quay.io/x", "contradicts mesh.hub"),
        ("istiod.global.tag", "1.30.0", "contradicts mesh.tag"),
        ("istiod.tag", 1.3, "contradicts mesh.tag"),
        ("istiod.meshConfig.trustDomain", None, "contradicts mesh.trustDomain"),
        ("istiod.meshConfig.defaultConfig.discoveryAddress", "a:15012", "set those instead"),
        ("istiod.meshConfig.rootNamespace", "mesh", "namespace istio-system is the only one"),
        ("istiod.global.istioNamespace", "mesh", "namespace istio-system is the only one"),
        ("base.global.istioNamespace", "mesh", "namespace istio-system is the only one"),
        ("istiod.global.proxy.clusterDomain", "corp", "cluster domain cluster.local is the only one"),
        ("istiod.global.remotePilotAddress", "10.0.0.1", "set those instead"),
        ("istiod.istiodRemote.enabled", True, "runs in its own cluster"),
        ("istiod.configMap", False, "VMs are told what istiod's ConfigMap says"),
        ("istiod.global.caAddress", "ca:443", "VMs get their certificates from istiod"),
        (f"istiod.{METADATA}.CA_ADDR", "ca:443", "VMs get their certificates from istiod"),
        ("istiod.global.sds.token.aud", "other", "tokens for istio-ca"),
        ("istiod.env.PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION", "false", "should be true"),
        ("istiod.env.PILOT_ENABLE_WORKLOAD_ENTRY_HEALTHCHECKS", False, "should be true"),
        ("gateway.networkGateway", "other", "set mesh.network instead"),
        ("gateway.networkGatewayPorts", {"tls": {"port": 15444}}, "set mesh.ingressPorts and mesh.eastWestPorts"),
        ("gateway.service.ports", [], "set mesh.ingressPorts and mesh.eastWestPorts"),
        ("gateway.service.type", "ClusterIP", "should be LoadBalancer"),
        ("gateway.labels.istio", "mine", "each has its own"),
        ("gateway.name", "mine", "each has its own"),
    ],
)
def test_a_value_that_contradicts_a_setting_is_refused(path: str, value: Any, says: str) -> None:
    ((place, message),) = problems(put(LAB, f"mesh.values.{path}", value)).items()
    assert place == f"mesh.values.{path}"
    assert message.startswith(f"{value!r}: ")
    assert says in message


def test_all_of_them_are_told_at_once() -> None:
    tables = put(
        put(LAB, "mesh.values.istiod.global", {"meshID": "a", "network": "b"}), "mesh.values.gateway.name", "c"
    )
    assert len(problems(tables)) == 3


@pytest.mark.parametrize(
    ("path", "value"),
    [
        # The same once more, as stacks may have it.
        ("istiod.meshConfig.trustDomain", "cluster.local"),
        ("istiod.global.meshID", "mesh1"),
        ("istiod.global.tag", LAB["mesh"]["tag"]),
        ("istiod.env.PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION", True),
        ("gateway.service.type", "LoadBalancer"),
        # What no setting is about.
        ("istiod.meshConfig.accessLogFile", "/dev/stdout"),
        (f"istiod.{METADATA}.ISTIO_META_DNS_AUTO_ALLOCATE", "true"),
        ("istiod.meshConfig.defaultConfig.concurrency", 2),
        ("istiod.global.proxy.resources", {}),
        ("istiod.meshConfig", "not a table, which is Helm's to refuse"),
        ("gateway.labels.team", "a"),
        ("gateway.service.annotations", {"a": "b"}),
    ],
)
def test_the_same_value_and_any_other_is_accepted(path: str, value: Any) -> None:
    assert parse(put(LAB, f"mesh.values.{path}", value))


def test_images_from_elsewhere_are_the_charts_own_business_while_no_setting_names_them() -> None:
    tables = put(put(LAB, "mesh.hub", None), "mesh.values.istiod.global.hub", "quay.io/x")
    assert parse(tables)
