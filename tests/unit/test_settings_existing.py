"""Settings of a stack on an existing cluster and existing hosts."""

from pathlib import Path
from typing import Any

import yaml

from components import settings
from tests.unit.test_settings import LAB, ROOT, parse, problems, put, stack_file

STAGING = stack_file("staging")
HOST = STAGING["workloads"][0]["vms"][0]["existing"]


def at(tables: dict[str, Any]) -> dict[str, str]:
    return problems(tables, stack="staging")


def kubeconfig(folder: Path) -> Path:
    contexts = [{"name": "staging", "context": {"cluster": "c", "user": "u"}}]
    clusters = [{"name": "c", "cluster": {"server": "https://c"}}]
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump({"contexts": contexts, "clusters": clusters, "users": [{"name": "u", "user": {}}]}))
    return path


def test_every_setting_of_an_existing_cluster_is_documented() -> None:
    text = (ROOT / "docs/settings.md").read_text().partition("## istio-vms:cluster")[2].partition("\n## ")[0]
    described = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]["cluster"]["description"]
    for model in (settings.ExistingClusterSettings, settings.KubeconfigSettings):
        for field in model.model_fields.values():
            assert f"{field.alias}" in text and f"{field.alias}" in described


def test_an_existing_cluster_has_no_machines() -> None:
    parsed = parse(STAGING, stack="staging")
    assert isinstance(parsed.cluster, settings.ExistingClusterSettings)
    assert list(settings.node_names(parsed.cluster)) == []


def test_settings_as_applied_read_back_as_they_were() -> None:
    parsed = parse(STAGING, stack="staging")
    assert parse(parsed.as_documents(), stack="staging") == parsed


def test_keys_of_k3s_are_refused_all_at_once_and_a_misspelled_one_as_ever() -> None:
    extra = {
        "version": "v1.32.0+k3s1",
        "podCidr": "10.0.0.0/16",
        "servers": {"count": 3},
        "agents": {"count": 1},
        "colour": 1,
    }
    found = at(put(STAGING, "cluster", STAGING["cluster"] | extra))
    assert sorted(found) == [f"cluster.{key}" for key in sorted(extra)]
    for key in set(extra) - {"colour"}:
        assert "none to make, so remove it" in found[f"cluster.{key}"]
    assert "unknown setting" in found["cluster.colour"]


def test_without_existing_the_cluster_is_k3s_and_needs_its_version_and_binary() -> None:
    found = at(put(STAGING, "cluster", {}))
    assert {"cluster.version", "cluster.binary", "cluster.servers.hosts"} <= set(found)
    assert "cluster" in at(put(STAGING, "cluster", 3))


def test_a_context_is_named() -> None:
    assert "needed" in at(put(STAGING, "cluster.existing", {"kubeconfig": "~/x"}))["cluster.existing.context"]
    assert "cluster.existing.context" in at(put(STAGING, "cluster.existing", {"context": ""}))


def test_the_kubeconfig_is_the_usual_one_unless_said_otherwise() -> None:
    parsed = parse(put(STAGING, "cluster.existing", {"context": "x"}), stack="staging")
    assert isinstance(parsed.cluster, settings.ExistingClusterSettings)
    assert parsed.cluster.existing.kubeconfig == str(Path.home() / ".kube/config")


def test_a_kubeconfig_or_a_context_that_is_not_there_is_found(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    tables = put(STAGING, "machines.privateKeyFile", str(tmp_path / "key"))

    def found(path: Path, context: str = "staging") -> dict[str, str]:
        wanted = put(tables, "cluster.existing", {"kubeconfig": str(path), "context": context})
        return {p.path: p.message for p in settings.missing_files(parse(wanted, stack="staging"))}

    assert "does not exist" in found(tmp_path / "none")["istio-vms:cluster.existing.kubeconfig"]
    there = kubeconfig(tmp_path)
    assert found(there) == {}
    assert "which has staging" in found(there, "production")["istio-vms:cluster.existing.context"]


def test_gateways_with_load_balancers_of_their_own_may_have_the_same_ports() -> None:
    same = {"status": 15021, "services": 443}
    parse(put(STAGING, "mesh.eastWestPorts", same), stack="staging")
    assert "ServiceLB" in problems(put(LAB, "mesh.eastWestPorts", same))["mesh.eastWestPorts.status"]
    twice = at(put(STAGING, "mesh.eastWestPorts", {"status": 15443}))
    says = "15443: is already taken by mesh.eastWestPorts.status; in one gateway each should be used once"
    assert twice == {"mesh.eastWestPorts.services": says}


def test_a_host_is_one_machine_only() -> None:
    found = at(put(STAGING, "workloads.0.vms.1.existing", HOST))
    assert "this host is already used" in found["workloads[0].vms[1].existing"]


def test_a_path_on_hosts_is_the_hosts_own(tmp_path: Path) -> None:
    (tmp_path / "key").touch()
    tables = put(STAGING, "mesh.sidecarPackage", {"path": "/srv/istio/istio-sidecar.deb"})
    tables = put(tables, "machines.privateKeyFile", str(tmp_path / "key"))
    tables = put(tables, "cluster.existing.kubeconfig", str(kubeconfig(tmp_path)))
    parsed = parse(tables, stack="staging")
    assert settings.machine_path(parsed.machines, "/srv/istio/istio-sidecar.deb") == "/srv/istio/istio-sidecar.deb"
    assert settings.missing_files(parsed) == [], "it is not looked for on this machine"


def test_hosts_run_their_own_application() -> None:
    tables = put(STAGING, "workloads.0.application", "sample")
    assert "should be none" in at(tables)["workloads[0].application"]
