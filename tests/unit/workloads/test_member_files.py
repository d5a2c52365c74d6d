"""The rendered files against those of the real istioctl, and what istioctl cannot do."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from actions.protocol import Failure, parse
from actions.workloads.files import (
    CLUSTER_ENV,
    KEEPALIVE_DROP_IN,
    TOKEN,
    UNIT_DROP_IN,
    Effect,
    MemberSpec,
    cluster_env,
    hosts,
    mesh_yaml,
    sidecar_files,
)

GOLDEN = Path(__file__).with_name("golden")
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/member.json"))


def golden(case: str, name: str) -> str:
    return (GOLDEN / case / name).read_text()


def member(case: str = "ports-and-network", **changes: object) -> MemberSpec:
    return MemberSpec.model_validate(
        {**MemberSpec.model_validate_json(golden(case, "member.json")).model_dump(), **changes}
    )


def sorted_ports(environment: str) -> str:
    """istioctl's order of ports is that of a Go map."""
    return re.sub(
        r"(?<=ISTIO_INBOUND_PORTS=')[\d,]+", lambda ports: ",".join(sorted(ports[0].split(","), key=int)), environment
    )


def test_there_are_cases() -> None:
    assert len(CASES) >= 4


@pytest.mark.parametrize("case", CASES)
def test_cluster_env_equals_istioctls(case: str) -> None:
    assert cluster_env(member(case)) == sorted_ports(golden(case, "cluster.env"))


@pytest.mark.parametrize("case", CASES)
def test_mesh_yaml_equals_istioctls(case: str) -> None:
    ours, istioctls = mesh_yaml(member(case)), golden(case, "mesh.yaml")
    assert sorted(ours.splitlines()) == sorted(istioctls.splitlines())
    assert yaml.safe_load(ours) == yaml.safe_load(istioctls)


@pytest.mark.parametrize("case", CASES)
def test_hosts_equals_istioctls(case: str) -> None:
    """Of the one address that istioctl was given."""
    assert hosts(member(case, gateway_addresses=member(case).gateway_addresses[:1])) == golden(case, "hosts")


@pytest.mark.parametrize(
    ("address", "order"), [("192.0.2.31", [1, 2, 3]), ("192.0.2.32", [2, 3, 1]), ("192.0.2.33", [3, 1, 2])]
)
def test_every_address_of_the_gateway_serves_and_members_begin_at_different_ones(
    address: str, order: list[int]
) -> None:
    three = ("192.0.2.1", "192.0.2.2", "192.0.2.3")
    lines = hosts(member(gateway_addresses=three, address=address)).splitlines()
    assert lines == [f"192.0.2.{n} istiod-1-32-0.istio-system.svc" for n in order]


def test_a_shifted_port_changes_exactly_two_lines() -> None:
    shifted = member(istiod_port=15013)
    address = "istiod-1-32-0.istio-system.svc"
    environment = golden("ports-and-network", "cluster.env").replace(f"{address}:15012", f"{address}:15013")
    assert cluster_env(shifted) == sorted_ports(environment)
    mesh = golden("ports-and-network", "mesh.yaml").replace(f"{address}:15012", f"{address}:15013")
    assert yaml.safe_load(mesh_yaml(shifted)) == yaml.safe_load(mesh)


def test_a_shifted_port_needs_the_ca_address_without_a_revision_too() -> None:
    assert "CA_ADDR='istiod.istio-system.svc:15013'\n" in cluster_env(member("plain", istiod_port=15013))


def test_a_gateway_with_a_host_name_is_used_directly() -> None:
    spec = member(gateway_addresses=("lb.example.org",), istiod_port=15013)
    assert hosts(spec) == ""
    assert "CA_ADDR='lb.example.org:15013'\n" in cluster_env(spec)
    assert "ISTIOD_SAN='istiod-1-32-0.istio-system.svc'\n" in cluster_env(spec)
    assert yaml.safe_load(mesh_yaml(spec))["defaultConfig"]["discoveryAddress"] == "lb.example.org:15013"


def test_a_life_of_certificates_is_one_line_more_and_its_default_none() -> None:
    plain = cluster_env(member(certificate_seconds=86400))
    assert plain == cluster_env(member())
    assert set(cluster_env(member(certificate_seconds=60)).splitlines()) - set(plain.splitlines()) == {
        "SECRET_TTL='60s'"
    }


def test_certificates_of_a_life_that_istiod_refuses_are_refused_here() -> None:
    with pytest.raises(ValueError, match="certificate_seconds"):
        member(certificate_seconds=91 * 86400)


def test_routes_come_and_go_with_the_sidecar() -> None:
    routes = ({"cidr": "10.42.0.0/24", "via": "10.89.0.13"}, {"cidr": "fd42:0:0:1::/64", "via": "fd00::13"})
    unit = sidecar_files(member(routes=routes), "root", "jwt")[UNIT_DROP_IN]
    assert unit.effect is Effect.RESTART
    assert [line for line in unit.content.splitlines() if " route " in line] == [
        "ExecStartPre=ip route replace 10.42.0.0/24 via 10.89.0.13",
        "ExecStartPre=ip route replace fd42:0:0:1::/64 via fd00::13",
        "ExecStopPost=-ip route del 10.42.0.0/24 via 10.89.0.13",
        "ExecStopPost=-ip route del fd42:0:0:1::/64 via fd00::13",
    ]
    assert unit.content.index("[Service]") < unit.content.index(" route ")
    assert " route " not in sidecar_files(member(), "root", "jwt")[UNIT_DROP_IN].content


@pytest.mark.parametrize(
    "route", [{"cidr": "10.42.0.0/24; rm", "via": "10.89.0.13"}, {"cidr": "10.42.0.0/24", "via": "a"}]
)
def test_a_route_is_made_of_addresses_only(route: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="routes"):
        member(routes=(route,))


def test_the_identity_is_that_of_the_service_account() -> None:
    assert member().spiffe_id == "spiffe://cluster.local/ns/vmns/sa/vm-sa"


def test_the_shell_reads_back_every_value() -> None:
    values = dict(word.split("=", 1) for word in shlex.split(cluster_env(member("proxy-config"))))
    assert values["QUOTED"] == 'it\'s "quoted" & spaced: yes'
    assert values["FROM_WORKLOAD"] == "no"


def test_only_the_token_is_private_and_does_not_ask_for_a_restart() -> None:
    files = sidecar_files(member(), root_certificate="root", token="jwt")
    assert {path for path, file in files.items() if file.mode & 0o077 == 0} == {TOKEN}
    assert files[TOKEN].owner == "istio-proxy"
    assert {path for path, file in files.items() if file.effect is Effect.NONE} == {TOKEN, KEEPALIVE_DROP_IN}
    assert files[CLUSTER_ENV].owner == "root"


def test_rendering_leaves_its_input_alone() -> None:
    spec = member("proxy-config")
    before = spec.model_dump_json()
    mesh_yaml(spec)
    assert spec.model_dump_json() == before


def test_every_wrong_key_is_named_at_once() -> None:
    with pytest.raises(Failure) as failure:
        parse(
            MemberSpec,
            '{"workload": "w", "cluster_id": "c", "gateway_addresses": [], "istiod_port": 0, "colour": "secret-value"}',
        )
    for key in ("namespace", "address", "gateway_addresses", "istiod_port", "colour"):
        assert f"- {key}: " in str(failure.value)
    assert "secret-value" not in str(failure.value)
