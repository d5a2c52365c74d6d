"""The whole program under Pulumi's mocks, on an existing cluster and existing hosts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from actions.cluster.claim import ClaimRequest
from actions.machines.driver import MachineSpec
from actions.machines.existing import Options
from actions.protocol import parse
from tests.unit.test_components import KUBECONFIG, Recorder, run_program, stdin
from tests.unit.test_settings import LAB, put, stack_file

STAGING = stack_file("staging")
HOME = {"server": "https://c"}


def kubeconfig(folder: Path, token: str = "T") -> Path:
    context = {"name": "staging", "context": {"cluster": "c", "user": "u"}}
    user, cluster = {"name": "u", "user": {"token": token}}, {"name": "c", "cluster": HOME}
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump({"contexts": [context], "clusters": [cluster], "users": [user]}))
    return path


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Any]:
    return put(STAGING, "cluster.existing.kubeconfig", str(kubeconfig(tmp_path)))


@pytest.fixture
def staging(tables: dict[str, Any]) -> Iterator[Recorder]:
    yield run_program(tables, stack="staging")


def test_no_machine_is_made_but_hosts_are_taken(staging: Recorder) -> None:
    machines = sorted(name for name in staging.made if name.endswith("-machine"))
    assert machines == ["staging-billing-1-machine", "staging-billing-2-machine"]
    spec = parse(MachineSpec, json.dumps(stdin(staging, machines[0])))
    options = Options.parse(spec.name, spec.options)
    assert (options.host, options.user, options.private_key) == ("billing-1.staging.example.com", "ubuntu", "PRIVATE")
    assert not [name for name in staging.made if "k3s" in name]


def test_another_key_does_not_make_another_host(staging: Recorder) -> None:
    assert "ssh-ed25519 AAAA" not in json.dumps(staging.made["staging-billing-1-machine"].inputs["triggers"])


def test_the_claim_document_is_what_the_command_line_reads(staging: Recorder) -> None:
    claim = parse(ClaimRequest, json.dumps(stdin(staging, "cluster-claim")))
    assert claim.owner == "istio-vms/staging"
    assert claim.namespaces == ("billing", "istio-system", "sample", "sample-guarded", "sample-outside")
    assert yaml.safe_load(claim.kubeconfig)["users"] == [{"name": "u", "user": {"token": "T"}}]
    inputs = staging.made["cluster-claim"].inputs
    assert [inputs[key].rsplit(" ", 1)[-1] for key in ("create", "update", "delete")] == [
        f"cluster.{verb}" for verb in ("claim", "renew", "release")
    ]


def test_every_namespace_of_the_stack_is_claimed(staging: Recorder) -> None:
    made = {
        args.inputs["metadata"]["name"] for args in staging.made.values() if args.typ == "kubernetes:core/v1:Namespace"
    }
    assert made == set(stdin(staging, "cluster-claim")["namespaces"])


def test_the_provider_stays_the_same_when_credentials_change(tables: dict[str, Any], tmp_path: Path) -> None:
    first = run_program(tables, stack="staging").made
    kubeconfig(tmp_path, token="other")
    second = run_program(tables, stack="staging").made
    assert first["cluster-claim"].inputs["stdin"] != second["cluster-claim"].inputs["stdin"], "it is noticed"
    identifiers = [made["cluster-kubernetes"].inputs["clusterIdentifier"] for made in (first, second)]
    assert identifiers == ["cluster-claim-id"] * 2
    assert first["cluster-claim"].inputs["triggers"] == second["cluster-claim"].inputs["triggers"] == []


def test_a_preview_without_a_kubeconfig_leaves_what_is_known(tmp_path: Path) -> None:
    nowhere = put(STAGING, "cluster.existing.kubeconfig", str(tmp_path / "none"))
    made = run_program(nowhere, stack="staging").made
    assert made["cluster-kubernetes"].inputs["kubeconfig"]
    assert stdin(run_program(nowhere, stack="staging"), "cluster-claim")["kubeconfig"] == ""


def test_without_a_kubeconfig_nothing_is_applied(tmp_path: Path) -> None:
    from components.settings import SettingsError

    with pytest.raises(SettingsError, match=r"cluster\.existing\.kubeconfig: .*does not exist"):
        run_program(put(STAGING, "cluster.existing.kubeconfig", str(tmp_path / "none")), "staging", preview=False)


def test_secrets_are_in_no_command(staging: Recorder) -> None:
    for args in staging.made.values():
        for key in ("create", "update", "delete", "environment"):
            text = json.dumps(args.inputs.get(key))
            assert not any(secret in text for secret in ("PRIVATE", "token", KUBECONFIG.strip())), args.name


def test_single_network_hosts_get_routes_to_the_nodes_there_are(tables: dict[str, Any]) -> None:
    recorder = run_program(put(tables, "workloads.0.network", "cluster-network"), stack="staging")
    assert stdin(recorder, "billing-1-join")["node_addresses"] == ["10.0.0.1"]


def test_a_path_is_the_hosts_own_and_is_not_waited_for(tables: dict[str, Any]) -> None:
    recorder = run_program(put(tables, "mesh.sidecarPackage", {"path": "/srv/s.deb"}), stack="staging")
    script = stdin(recorder, "billing-1-join")["package_script"]
    assert "/srv/s.deb" in script and "the host's owner puts it there" in script and ".brings" in script
    assert ".brings" not in stdin(run_program(LAB), "vm-1-join")["package_script"]
