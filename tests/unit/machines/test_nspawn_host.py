"""What is done to the host: firewall rules, routes, cgroups, processes, locks."""

import os
import select
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from actions.machines.nspawn import cgroups, layout, network, process
from actions.machines.nspawn.record import Lan
from actions.protocol import Failure

CLUSTER = Lan("istio-vms/lab", "cluster", "10.89.0.0/24")
VMS = Lan("istio-vms/lab", "vms", "10.90.0.0/24")
STRANGER = Lan("istio-vms/other", "vms", "10.91.0.0/24")


def test_only_networks_of_one_owner_reach_each_other() -> None:
    rules = network.render_rules([CLUSTER, VMS, STRANGER])
    a, b, c = CLUSTER.bridge, VMS.bridge, STRANGER.bridge
    assert rules == [
        "-N ISTIO-VMS",
        f"-A ISTIO-VMS -i {a} -o {a} -j ACCEPT",
        f"-A ISTIO-VMS -i {b} -o {b} -j ACCEPT",
        f"-A ISTIO-VMS -i {c} -o {c} -j ACCEPT",
        f"-A ISTIO-VMS -s 10.89.0.0/24 -d 10.90.0.0/24 -i {a} -o {b} -j ACCEPT",
        f"-A ISTIO-VMS -s 10.90.0.0/24 -d 10.89.0.0/24 -i {b} -o {a} -j ACCEPT",
        f"-A ISTIO-VMS -i {a} -j DROP",
        f"-A ISTIO-VMS -o {a} -j DROP",
        f"-A ISTIO-VMS -i {b} -j DROP",
        f"-A ISTIO-VMS -o {b} -j DROP",
        f"-A ISTIO-VMS -i {c} -j DROP",
        f"-A ISTIO-VMS -o {c} -j DROP",
    ]


ROUTES = [
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
    {"dst": "10.89.0.0/24", "dev": CLUSTER.bridge},
    {"type": "local", "dst": "10.89.0.1", "dev": CLUSTER.bridge, "table": "local"},
    {"type": "broadcast", "dst": "10.89.0.255", "dev": CLUSTER.bridge, "table": "local"},
    {"dst": "172.17.0.0/16", "dev": "docker0"},
    {"type": "blackhole", "dst": "10.100.0.0/14"},
]


@pytest.mark.parametrize(
    ("lan", "clash"),
    [
        (CLUSTER, None),
        (VMS, None),
        (Lan("other", "cluster", "10.89.0.0/24"), f"10.89.0.0/24 on {CLUSTER.bridge}"),
        (Lan("o", "n", "172.17.4.0/24"), "172.17.0.0/16 on docker0"),
        (Lan("o", "n", "172.16.0.0/12"), "172.17.0.0/16 on docker0"),
        (Lan("o", "n", "10.101.0.0/24"), "10.100.0.0/14 on this host"),
    ],
)
def test_a_range_in_use_is_found(lan: Lan, clash: str | None) -> None:
    assert network.overlapping(lan, ROUTES) == clash


MOUNTINFO = """\
24 1 254:0 / / rw,relatime - ext4 /dev/vda rw
25 24 0:21 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
26 25 0:22 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
27 25 0:23 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
28 25 0:24 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
29 25 0:25 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
30 24 0:24 / /run/machine/root/sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
"""


def test_processes_are_found_while_groups_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "hierarchies", lambda: [cgroups.Hierarchy(tmp_path, 1, frozenset())])
    machine = tmp_path / cgroups.PARENT / "vm-1"
    machine.mkdir(parents=True)
    (machine / "cgroup.procs").write_text("12\n13\n")
    ended = threading.Event()

    def containers() -> None:
        while not ended.is_set():
            pods = [machine / "kubepods" / f"pod{i}" / "container" for i in range(8)]
            for pod in pods:
                pod.mkdir(parents=True)
            shutil.rmtree(machine / "kubepods")

    kubelet = threading.Thread(target=containers)
    kubelet.start()
    try:
        assert all(cgroups.processes("vm-1") == {12, 13} for _ in range(400))
    finally:
        ended.set()
        kubelet.join()


def test_version_1_hierarchies_are_found_with_their_controllers() -> None:
    found = cgroups.parse(MOUNTINFO)
    assert [(str(h.mount).rpartition("/")[2], h.version, sorted(h.controllers)) for h in found] == [
        ("cpu,cpuacct", 1, ["cpu", "cpuacct"]),
        ("memory", 1, ["memory"]),
        ("systemd", 1, ["name=systemd"]),
        ("unified", 2, []),
    ]
    assert not cgroups.unified(found)


def test_a_host_with_version_2_only() -> None:
    found = cgroups.parse("25 24 0:21 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
    assert [str(h.mount) for h in found] == ["/sys/fs/cgroup"]
    assert cgroups.unified(found)


def test_kernel_lists_of_processors() -> None:
    assert cgroups.parse_cpus("0-3,6\n") == [0, 1, 2, 3, 6]
    assert cgroups.parse_cpus("5") == [5]


def test_machines_are_spread_over_processors() -> None:
    host = [0, 1, 2, 3]
    assert [cgroups.choose_cpus(host, 1, index) for index in (11, 12, 13, 14)] == [[3], [0], [1], [2]]
    assert [cgroups.choose_cpus(host, 3, index) for index in (0, 1)] == [[0, 1, 2], [0, 1, 3]]
    assert cgroups.choose_cpus(host, 8, 5) == host


def test_a_process_is_read_even_with_a_hostile_name() -> None:
    text = f"4711 (a) R (b) S 1 4711 4711 0 -1 {' '.join(map(str, range(9, 22)))} 123456 99\n"
    assert process.parse_stat(text) == (process.Process(4711, 123456), "S")


def test_a_process_is_known_by_its_start_time_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(layout, "RUN", tmp_path)
    paths = layout.Paths("m")
    paths.run.mkdir()
    assert process.find(paths) is None
    own = Path(f"/proc/{os.getpid()}/stat").read_text()
    paths.process.write_text(own)
    found = process.find(paths)
    assert found and found.pid == os.getpid()
    paths.process.write_text(own.replace(f" {found.started} ", f" {found.started + 1} "))
    assert process.find(paths) is None
    paths.process.write_text("")
    assert process.find(paths) is None


def keep(tmp_path: Path, *command: str, version: int = 1) -> subprocess.Popen[bytes]:
    group = cgroups.Group(tmp_path / "a group", version)
    group.keeper.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(process.keeper(command, [group], tmp_path / "record", "no-such-link"))


def test_the_keeper_records_itself_and_ends_as_the_machine_does(tmp_path: Path) -> None:
    kept = keep(tmp_path, "sh", "-c", "exit 7")
    assert kept.wait(10) == 7
    assert process.parse_stat((tmp_path / "record").read_text())[0].pid == kept.pid
    assert (tmp_path / "a group/cgroup.procs").read_text() == "0\n"


def test_the_keeper_boots_again_after_a_reboot_in_a_cgroup_of_its_own(tmp_path: Path) -> None:
    boots = tmp_path / "boots"
    kept = keep(tmp_path, "sh", "-c", f'echo >>"{boots}"; [ $(wc -l <"{boots}") = 3 ] || exit 133', version=2)
    assert kept.wait(10) == 0
    assert sorted(path.name for path in (tmp_path / "a group").iterdir()) == ["boot-1", "boot-2", "boot-3", "keeper"]


def test_the_keeper_hands_a_power_off_on_and_waits_for_it(tmp_path: Path) -> None:
    script = f'trap "sleep 0.3; touch {tmp_path}/off; exit 5" TERM; touch {tmp_path}/on; while :; do sleep 0.01; done'
    kept = keep(tmp_path, "sh", "-c", script)
    while not (tmp_path / "on").exists():
        time.sleep(0.01)
    kept.terminate()
    assert kept.wait(10) == 5
    assert (tmp_path / "off").exists()


def test_the_machine_dies_with_its_keeper(tmp_path: Path) -> None:
    kept = keep(tmp_path, "sh", "-c", f"echo $$ >{tmp_path}/pid; mv {tmp_path}/pid {tmp_path}/me; exec sleep 60")
    while not (tmp_path / "me").exists():
        time.sleep(0.01)
    machine = os.pidfd_open(int((tmp_path / "me").read_text()))
    kept.kill()
    kept.wait(10)
    assert select.select([machine], [], [], 5)[0]
    os.close(machine)


def test_a_keeper_that_cannot_enter_a_cgroup_does_not_start_the_machine(tmp_path: Path) -> None:
    command = ["touch", str(tmp_path / "started")]
    kept = subprocess.Popen(
        process.keeper(command, [cgroups.Group(tmp_path / "missing", 1)], tmp_path / "record", "no-such-link"),
        stderr=subprocess.DEVNULL,
    )
    assert kept.wait(10) != 0
    assert not (tmp_path / "started").exists()


def test_a_lock_lets_one_in_at_a_time_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(layout, "RUN", tmp_path / "run")
    monkeypatch.setattr(layout, "LOCKS", tmp_path / "run" / ".locks")
    inside: list[int] = []
    most: list[int] = []

    def work(number: int) -> None:
        for _ in range(20):
            with layout.machine_lock("m"):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 120
    assert set(most) == {1}
    assert not (tmp_path / "run").exists()


def test_nothing_is_removed_through_a_mount(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(layout, "mounts_below", lambda folder: [f"{folder}/root"])
    (tmp_path / "kept").touch()
    with pytest.raises(Failure, match="still mounted"):
        layout.remove_tree(tmp_path)
    assert (tmp_path / "kept").exists()


def test_a_files_mode_is_what_was_asked_for_whatever_the_umask(tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        layout.write_atomically(tmp_path / "file", "text", 0o644)
    finally:
        os.umask(umask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_failed_host_command_says_what_it_said() -> None:
    with pytest.raises(Failure, match=r"`ls /nowhere-at-all` failed: .*No such file"):
        layout.run(["ls", "/nowhere-at-all"])
