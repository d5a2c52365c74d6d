"""What a machine is given: its files, its unit, its nspawn command line; and the root file system they share."""

import json
from pathlib import Path

import pytest

from actions.machines.nspawn import disk, process
from actions.machines.nspawn.record import Record
from lab import rootfs

RECORD = Record(
    name="lab-vm-1",
    owner="istio-vms/lab",
    identity="0123456789abcdef",
    image="/images/root",
    user="ubuntu",
    cpus=2,
    memory_mib=1024,
    network="vms",
    cidr="10.90.0.0/24",
    address="10.90.0.11",
    mounts=(("/srv/artifacts", "/opt/istio-vms"),),
)


@pytest.fixture
def files() -> dict[str, disk.File]:
    return {file.path: file for file in disk.render(RECORD, "#cloud-config\n", "PRIVATE", "ssh-ed25519 AAAA")}


def test_secrets_are_readable_by_root_only(files: dict[str, disk.File]) -> None:
    assert {path for path, file in files.items() if file.mode == 0o600} == {
        "etc/ssh/ssh_host_ed25519_key",
        "var/lib/cloud/seed/nocloud-net/user-data",
    }


def test_the_machine_knows_its_own_name_without_dns(files: dict[str, disk.File]) -> None:
    assert files["etc/hostname"].text == "lab-vm-1\n"
    assert "127.0.1.1 lab-vm-1\n" in files["etc/hosts"].text
    assert files["etc/resolv.conf"].text == "nameserver 10.90.0.1\n"
    assert len(files["etc/machine-id"].text) == 33


def test_the_seed_makes_a_new_instance_of_new_user_data(files: dict[str, disk.File]) -> None:
    meta_data = json.loads(files["var/lib/cloud/seed/nocloud-net/meta-data"].text)
    assert meta_data == {"instance-id": "lab-vm-1-0123456789abcdef", "local-hostname": "lab-vm-1"}
    assert files["var/lib/cloud/seed/nocloud-net/user-data"].text == "#cloud-config\n"


def test_the_prepare_unit() -> None:
    assert disk.render_prepare_unit(RECORD) == (Path(__file__).parent / "golden" / disk.PREPARE_UNIT).read_text()


def test_the_command_line_of_nspawn() -> None:
    command = process.arguments(RECORD, Path("/run/r/root"), Path("/var/r/rancher"), ["/dev/kmsg"])
    assert command[0] == "systemd-nspawn"
    assert {
        "--boot",
        "--register=no",
        "--keep-unit",
        "--capability=all",
        "--machine=lab-vm-1",
        "--directory=/run/r/root",
        f"--network-bridge={RECORD.lan.bridge}",
        "--bind=/dev/kmsg",
        "--bind=/var/r/rancher:/var/lib/rancher",
        "--bind-ro=/srv/artifacts:/opt/istio-vms",
    } <= set(command)


def test_nspawn_gets_nothing_of_the_callers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "secret")
    legacy = process.environment(Path("/run/r/notify"), unified=False)
    unified = process.environment(Path("/run/r/notify"), unified=True)
    assert set(legacy) - set(unified) == {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"}
    assert legacy["NOTIFY_SOCKET"] == "/run/r/notify"
    assert "secret" not in {*legacy.values(), *unified.values()}


def test_the_mirror_is_the_hosts_own() -> None:
    targets = """\
Debian|bookworm-security|main|http://mirror.test/debian-security/
Acme|bookworm|main|https://acme.test/
Debian|bookworm-updates|main|http://updates.test/debian/
Debian|bookworm|contrib|http://contrib.test/debian/
Debian|bookworm|main|http://mirror.test/debian/
"""
    assert rootfs.choose_mirror(targets) == "http://mirror.test/debian/"
    assert rootfs.choose_mirror("Debian|trixie|main|http://other.test/debian/\n") == "http://other.test/debian/"
    with pytest.raises(rootfs.RootfsError, match="apt-get update"):
        rootfs.choose_mirror("Ubuntu|noble|main|http://ubuntu.test/ubuntu/\n")


def test_a_configured_root_has_no_identity_and_no_slow_units(tmp_path: Path) -> None:
    (tmp_path / "etc/ssh").mkdir(parents=True)
    (tmp_path / "etc/ssh/ssh_host_rsa_key").touch()
    (tmp_path / "etc/machine-id").write_text("0123\n")
    (tmp_path / "etc/hostname").write_text("builder\n")
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    rootfs.configure(tmp_path)
    assert not list(tmp_path.glob("etc/ssh/ssh_host_*"))
    assert (tmp_path / "etc/machine-id").read_text() == ""
    assert not (tmp_path / "etc/hostname").exists()
    # writes the host's own sysctls, since a machine's /proc/sys is writable
    assert (tmp_path / "etc/systemd/system/systemd-sysctl.service").readlink() == Path("/dev/null")
    assert "manage_etc_hosts: false" in (tmp_path / "etc/cloud/cloud.cfg").read_text()
    rootfs.configure(tmp_path)


def test_a_root_that_is_there_is_not_built_again(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    rootfs.build(tmp_path / "root", pytest.fail)
