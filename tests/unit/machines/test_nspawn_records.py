"""Names, addresses, identities: what is decided about a machine before anything is made."""

import dataclasses
from pathlib import Path

import pytest

from actions.machines.driver import MachineSpec, Mount, Network
from actions.machines.nspawn import layout, record
from actions.machines.nspawn.record import Lan
from actions.protocol import Failure

SPEC = MachineSpec(
    driver="nspawn",
    name="lab-vm-1",
    owner="istio-vms/lab",
    cpus=2,
    memory_mib=1024,
    disk_gib=10,
    image="/images/root",
    user="ubuntu",
    user_data="#cloud-config\n",
    network=Network("vms", "10.90.0.0/24"),
    mounts=(Mount("/srv/artifacts", "/opt/istio-vms"),),
)
LAN = Lan("istio-vms/lab", "vms", "10.90.0.0/24")


@pytest.mark.parametrize("name", ["a", "lab-server-1", "x" * 63])
def test_a_host_name_is_a_machine_name(name: str) -> None:
    assert layout.check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a.b", "../a", "a/b", "a b", "x" * 64, "a\n"])
def test_anything_else_is_refused(name: str) -> None:
    with pytest.raises(Failure, match="no host name"):
        layout.check_name(name)


def test_a_bridge_name_fits_an_interface_and_tells_networks_apart() -> None:
    others = [dataclasses.replace(LAN, **{field: "10.9.0.0/24"}) for field in ("owner", "name", "cidr")]
    names = {lan.bridge for lan in (LAN, *others)}
    assert len(names) == 4
    assert all(len(name) <= 15 and name.startswith("ivm-") for name in names)
    assert LAN.bridge == Lan(LAN.owner, LAN.name, LAN.cidr).bridge


def test_owner_and_name_do_not_run_into_each_other() -> None:
    assert Lan("a", "bc", "10.0.0.0/24").bridge != Lan("ab", "c", "10.0.0.0/24").bridge


@pytest.mark.parametrize(
    ("cidr", "taken", "address"),
    [
        ("10.90.0.0/24", (), "10.90.0.11"),
        ("10.90.0.0/24", ("10.90.0.11", "10.90.0.13"), "10.90.0.12"),
        ("10.90.0.0/27", (), "10.90.0.11"),
        ("10.90.0.16/28", (), "10.90.0.20"),
    ],
)
def test_the_lowest_free_address(cidr: str, taken: tuple[str, ...], address: str) -> None:
    assert record.choose_address(Lan("o", "n", cidr), taken) == address


def test_a_full_network_is_an_error_and_never_gives_the_broadcast_address() -> None:
    lan = Lan("o", "n", "10.90.0.0/28")
    taken: list[str] = []
    with pytest.raises(Failure, match="no free address"):
        for _ in range(16):
            taken.append(record.choose_address(lan, taken))
    assert taken[-1] == "10.90.0.14"
    assert str(lan.gateway) == "10.90.0.1"
    assert str(lan.gateway) not in taken


@pytest.mark.parametrize("cidr", ["", "10.90.0.1/24", "10.90.0.0/29", "fd00::/64", "cluster"])
def test_a_range_that_cannot_be_used_is_refused(cidr: str) -> None:
    with pytest.raises(Failure, match="network n"):
        _ = Lan("o", "n", cidr).network


def test_identity_follows_what_only_a_new_disk_can_take() -> None:
    same = dataclasses.replace(SPEC, cpus=1, memory_mib=512, disk_gib=1, mounts=())
    others = [
        dataclasses.replace(SPEC, user_data="#cloud-config\nruncmd: []\n"),
        dataclasses.replace(SPEC, image="/images/other"),
        dataclasses.replace(SPEC, user="debian"),
        dataclasses.replace(SPEC, network=Network("vms", "10.91.0.0/24")),
        dataclasses.replace(SPEC, network=Network("cluster", "10.90.0.0/24")),
    ]
    assert record.identity(same) == record.identity(SPEC)
    assert len({record.identity(spec) for spec in (SPEC, *others)}) == 6


def test_a_plan_avoids_the_addresses_of_others_and_a_resize_keeps_the_rest() -> None:
    first = record.plan(SPEC, Path("/images/root-1"), [])
    second = record.plan(dataclasses.replace(SPEC, name="lab-vm-2"), Path("/images/root-2"), [first])
    assert (first.address, second.address) == ("10.90.0.11", "10.90.0.12")
    assert (first.image, second.image) == ("/images/root-1", "/images/root-2")
    known = dataclasses.replace(first, host_key="ssh-ed25519 AAAA")
    resized = record.resize(known, dataclasses.replace(SPEC, cpus=4, memory_mib=4096, mounts=()))
    assert resized == dataclasses.replace(known, cpus=4, memory_mib=4096, mounts=())


def test_a_record_survives_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "VAR", tmp_path)
    planned = record.plan(SPEC, Path("/images/root-1"), [])
    planned.save()
    assert record.load(SPEC.name) == planned
    assert record.load_all() == [planned]
    assert (tmp_path / SPEC.name / "spec.json").stat().st_mode & 0o777 == 0o600
    assert record.load("lab-vm-2") is None
