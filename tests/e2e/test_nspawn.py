"""Real machines through the command line that Pulumi runs. Needs root and Linux; the root file system is made if need be.

`ISTIO_VMS_ROOTFS` names a root file system to use.
"""

import concurrent.futures
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actions.machines.keys import make_pair
from actions.machines.nspawn import driver, layout, names, network, process
from actions.machines.nspawn.record import Lan
from lab import rootfs

REPO = Path(__file__).parents[2]
RUN_ID = secrets.token_hex(3)
OWNER = f"istio-vms/e2e-{RUN_ID}"
CLUSTER = {"name": "cluster", "cidr": "10.213.64.0/24"}
VMS = {"name": "vms", "cidr": "10.213.65.0/24"}
STRANGER = f"{OWNER}-stranger"
STRANGERS = {"name": "vms", "cidr": "10.213.66.0/24"}
UPSTREAM = "127.213.64.53"
WATCHED_SYSCTLS = (*network.SYSCTLS, *network.TOUCHED_SYSCTLS)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="nspawn machines need Linux and root"
)


def read_sysctls() -> dict[str, str]:
    return {name: Path("/proc/sys", name).read_text() for name in WATCHED_SYSCTLS if Path("/proc/sys", name).exists()}


def call(verb: str, document: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "actions", f"machines.{verb}"],
        input=json.dumps(document),
        capture_output=True,
        text=True,
        check=False,
        cwd=REPO,
        timeout=120,
    )


def answer(verb: str, document: object):
    done = call(verb, document)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(verb: str, document: object) -> str:
    done = call(verb, document)
    assert done.returncode == 1, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


class Lab:
    """The machines of this module: their specs, how to reach them."""

    def __init__(self, folder: Path) -> None:
        default = Path("~/.cache/istio-vms/artifacts/rootfs").expanduser()
        self.root = Path(os.environ.get("ISTIO_VMS_ROOTFS", default))
        rootfs.build(self.root, print)
        self.image = folder / "rootfs"
        self.image.symlink_to(self.root)
        self.folder = folder
        self.mount = folder / "artifacts"
        self.mount.mkdir()
        (self.mount / "k3s").write_text("binary")
        private, self.public = make_pair()
        self.key = folder / "key"
        self.key.touch(mode=0o600)
        self.key.write_text(private)
        self.states: dict[str, dict[str, str]] = {}

    def spec(self, name: str, lan: dict[str, str] = CLUSTER, **changes: object) -> dict[str, object]:
        user = {"name": "ubuntu", "shell": "/bin/bash", "sudo": "ALL=(ALL) NOPASSWD:ALL"}
        user_data = {
            "users": [user | {"ssh_authorized_keys": [self.public]}],
            "write_files": [{"path": "/etc/made-of", "content": f"{changes.pop('marker', 'first')}\n"}],
            "runcmd": [["sh", "-c", "touch /var/lib/commands-ran"]],
        }
        document: dict[str, object] = {
            "driver": "nspawn",
            "name": f"{name}-{RUN_ID}",
            "owner": OWNER,
            "cpus": 1,
            "memory_mib": 512,
            "disk_gib": 5,
            "image": str(self.image),
            "user": "ubuntu",
            "user_data": f"#cloud-config\n{json.dumps(user_data)}\n",
            "network": lan,
            "mounts": [{"source": str(self.mount), "target": "/opt/artifacts"}],
            "options": {},
        }
        return document | changes

    def ensure(self, name: str, lan: dict[str, str] = CLUSTER, **changes: object) -> dict[str, str]:
        self.states[name] = answer("ensure", self.spec(name, lan, **changes))
        return self.states[name]

    def delete(self, name: str) -> None:
        assert answer("delete", self.spec(name)) == {}
        self.states.pop(name, None)

    def ssh(self, name: str, command: str, *, check: bool = True, stdin: str = "") -> subprocess.CompletedProcess[str]:
        state = self.states[name]
        known = self.folder / f"{name}.known"
        known.write_text(f"{state['address']} {state['host_key']}\n")
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "2",
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(known),
        }
        flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        target = f"{state['user']}@{state['address']}"
        done = subprocess.run(
            ["ssh", "-i", str(self.key), *flags, target, command],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def wait_ready(self, name: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while self.ssh(name, "test -e /var/lib/cloud/instance/boot-finished", check=False).returncode:
            assert time.monotonic() < deadline, f"{name} is not ready after {seconds} s"
            time.sleep(0.1)

    def look_up(self, name: str, asked: str) -> list[str]:
        """Address and name of what a machine asks for; nothing when nobody knows it."""
        return self.ssh(name, f"getent hosts {asked}", check=False).stdout.split()

    def pid(self, name: str) -> int:
        found = process.find(layout.Paths(f"{name}-{RUN_ID}"))
        assert found
        return found.pid


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory):
    if os.geteuid() != 0:
        pytest.skip("nspawn machines need root")
    equipment = Lab(tmp_path_factory.mktemp("nspawn"))
    equipment.ensure("a")
    yield equipment
    for owner in (OWNER, STRANGER):
        for state in answer("list", {"driver": "nspawn", "owner": owner}):
            answer("delete", {"driver": "nspawn", "owner": owner, "name": state["name"]})


@pytest.fixture
def ready(lab: Lab) -> Lab:
    """The lab with machine `a` as first made, up and finished."""
    lab.ensure("a")
    lab.wait_ready("a")
    return lab


def test_a_machine_is_what_its_spec_says(ready: Lab) -> None:
    state = ready.states["a"]
    assert state["address"].startswith("10.213.64.")
    assert state["state"] == "running"
    assert ready.ssh("a", "hostname; cat /etc/made-of; sudo id -u").stdout.split() == [f"a-{RUN_ID}", "first", "0"]
    assert ready.ssh("a", "cat /opt/artifacts/k3s").stdout == "binary"
    assert ready.ssh("a", "sudo touch /opt/artifacts/k3s", check=False).returncode
    assert ready.ssh("a", "test -e /var/lib/commands-ran")
    assert ready.ssh("a", "cloud-init status").stdout == "status: done\n"
    assert "0 loaded units" in ready.ssh("a", "systemctl --failed").stdout


def test_the_host_key_is_the_only_one_accepted(ready: Lab) -> None:
    right = ready.states["a"]["host_key"]
    _, other = make_pair()
    ready.states["a"]["host_key"] = " ".join(other.split()[:2])
    try:
        assert "Host key verification failed" in ready.ssh("a", "true", check=False).stderr
    finally:
        ready.states["a"]["host_key"] = right


def test_what_a_kubernetes_node_and_a_sidecar_need(ready: Lab) -> None:
    script = """\
set -eu
for group in $(awk '$3 == "cgroup" {print $2}' /proc/mounts) ; do mkdir "$group/probe"; rmdir "$group/probe"; done
cd /var/lib/rancher; mkdir l u w m
mount -t overlay probe -o lowerdir=l,upperdir=u,workdir=w m; umount m; rm -r l u w m
iptables -t nat -A OUTPUT -p tcp -m comment --comment probe -j REDIRECT --to-ports 15001; iptables -t nat -F OUTPUT
iptables -t mangle -A PREROUTING -p tcp -m mark --mark 0x539 -j ACCEPT; iptables -t mangle -F PREROUTING
ip link add probe0 type vxlan id 1 dev host0 dstport 8472; ip link delete probe0
ip link add probe1 type bridge; ip link delete probe1
ip netns add probe; ip netns delete probe
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
test "$(findmnt -no PROPAGATION /)" = shared
test -c /dev/kmsg
sysctl -qw vm.overcommit_memory=1 kernel.panic=10
"""
    done = ready.ssh("a", "sudo bash -s", stdin=script, check=False)
    assert done.returncode == 0, done.stderr


def test_ensure_of_a_running_machine_changes_nothing(ready: Lab) -> None:
    before = ready.pid("a"), layout.Paths(f"a-{RUN_ID}").record.stat().st_mtime_ns
    state = dict(ready.states["a"])
    assert ready.ensure("a") == state
    assert (ready.pid("a"), layout.Paths(f"a-{RUN_ID}").record.stat().st_mtime_ns) == before


def test_sizes_change_while_it_runs(ready: Lab) -> None:
    pid = ready.pid("a")
    memory = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    assert int(ready.ssh("a", f"sudo sh -c '{memory}'").stdout) == 512 << 20
    ready.ensure("a", memory_mib=768, cpus=os.cpu_count())
    assert int(ready.ssh("a", f"sudo sh -c '{memory}'").stdout) == 768 << 20
    assert int(ready.ssh("a", "nproc").stdout) == os.cpu_count()
    assert ready.pid("a") == pid


def test_five_machines_side_by_side_on_two_networks(ready: Lab) -> None:
    names = {"b": CLUSTER, "c": CLUSTER, "d": VMS, "e": VMS, "f" * 56: VMS}
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        states = list(pool.map(lambda item: ready.ensure(*item), names.items()))
        ensured = time.monotonic() - started
        list(pool.map(ready.wait_ready, names))
    finished = time.monotonic() - started
    print(f"five side by side: ensured {ensured:.1f} s, boot finished {finished:.1f} s")
    addresses = {state["address"] for state in states}
    assert len(addresses | {ready.states["a"]["address"]}) == 6
    assert finished < 60
    for name, target in (("b", "d"), ("d", "b"), ("b", "c"), ("d", "e")):
        ready.ssh(name, f"ping -c1 -W2 {ready.states[target]['address']}")


def test_between_networks_only_machine_addresses_pass(ready: Lab) -> None:
    ready.ensure("d", VMS)
    ready.wait_ready("d")
    there, gateway = ready.states["d"]["address"], "10.213.65.1"
    ready.ssh("d", f"sudo ip route replace 10.42.7.0/24 via {gateway}")
    subprocess.run(["ip", "route", "add", "10.42.7.0/24", "via", ready.states["a"]["address"]], check=True)
    try:
        ready.ssh("a", "sudo ip address add 10.42.7.1/32 dev lo")
        assert ready.ssh("a", f"ping -c1 -W1 {there}").returncode == 0
        assert ready.ssh("a", f"ping -c1 -W1 -I 10.42.7.1 {there}", check=False).returncode
        assert ready.ssh("d", "ping -c1 -W1 10.42.7.1", check=False).returncode
    finally:
        subprocess.run(["ip", "route", "delete", "10.42.7.0/24"], check=True)


def test_machines_of_one_owner_know_each_others_names(ready: Lab) -> None:
    ready.ensure("d", VMS)
    ready.wait_ready("d")
    (a, at), (d, there) = ((state["name"], state["address"]) for state in (ready.states["a"], ready.states["d"]))
    assert ready.look_up("a", d) == [there, d]
    assert ready.look_up("d", a) == [at, a]
    assert ready.look_up("d", at) == [at, a]
    ready.delete("d")
    assert ready.look_up("a", d) == []


def test_another_owners_machines_have_names_of_their_own(ready: Lab) -> None:
    spec = ready.ensure("s", STRANGERS, owner=STRANGER)
    ready.wait_ready("s")
    assert ready.look_up("s", ready.states["a"]["name"]) == []
    assert ready.look_up("a", spec["name"]) == []
    answer("delete", ready.spec("s", STRANGERS, owner=STRANGER))
    assert Lan(STRANGER, **STRANGERS).bridge not in names.served()
    assert Lan(OWNER, **CLUSTER).bridge in names.served()


@pytest.fixture
def upstream(tmp_path: Path):
    """What starts a command on a host whose only name server knows one name."""
    bind = ["--bind-interfaces", "--except-interface=lo", f"--listen-address={UPSTREAM}"]
    alone = ["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--no-hosts", "--no-resolv"]
    server = subprocess.Popen(["dnsmasq", *alone, *bind, "--local=/test/", "--address=/known.test/192.0.2.7"])
    settings = tmp_path / "resolv.conf"
    settings.write_text(f"nameserver {UPSTREAM}\n")
    script = 'mount --bind "$0" /etc/resolv.conf; exec "$@"'
    yield ["unshare", "--mount", "--propagation=slave", "sh", "-ec", script, str(settings)]
    server.terminate()
    server.wait()


def end_names() -> None:
    """Kill what answers on the network of machine `a`."""
    bridge = Lan(OWNER, **CLUSTER).bridge
    for pid in names.pids(bridge):
        os.kill(pid, signal.SIGKILL)
    while bridge in names.served():
        time.sleep(0.01)


def test_a_killed_name_server_comes_back_and_asks_the_hosts(ready: Lab, upstream: list[str]) -> None:
    end_names()
    listed = {item["name"]: item["state"] for item in answer("list", {"driver": "nspawn", "owner": OWNER})}
    assert listed[f"a-{RUN_ID}"] == "without names"
    machine = ready.pid("a")
    caller = subprocess.Popen(
        [*upstream, sys.executable, "-m", "actions", "machines.update"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPO,
        start_new_session=True,
    )
    out, _ = caller.communicate(json.dumps(ready.spec("a")))
    with pytest.raises(ProcessLookupError):
        os.killpg(caller.pid, signal.SIGHUP)
    assert json.loads(out) == ready.states["a"]
    assert ready.pid("a") == machine
    assert ready.look_up("a", "known.test") == ["192.0.2.7", "known.test"]
    assert ready.look_up("a", "unknown.test") == []
    end_names()
    ready.ensure("a")
    assert ready.look_up("a", "known.test") == []


def test_a_newer_root_behind_the_same_link_leaves_the_machine_on_its_own(ready: Lab) -> None:
    newer = ready.folder / "newer"
    (newer / "usr/lib/systemd").mkdir(parents=True)
    (newer / "usr/lib/systemd/systemd").touch()
    ready.image.unlink()
    ready.image.symlink_to(newer)
    try:
        pid = ready.pid("a")
        ready.ensure("a")
        assert ready.pid("a") == pid
        os.kill(pid, signal.SIGKILL)
        ready.ensure("a")
        ready.wait_ready("a")
    finally:
        ready.image.unlink()
        ready.image.symlink_to(ready.root)


def test_a_stranger_is_refused(ready: Lab) -> None:
    assert "belongs to" in refusal("ensure", ready.spec("a", owner="someone/else"))
    assert "belongs to" in refusal("delete", ready.spec("a", owner="someone/else"))
    assert ready.ssh("a", "true").returncode == 0


def test_other_user_data_needs_another_machine(ready: Lab) -> None:
    pid = ready.pid("a")
    assert "delete it" in refusal("ensure", ready.spec("a", marker="second"))
    assert ready.pid("a") == pid


def test_a_reboot_keeps_disk_and_address(ready: Lab) -> None:
    ready.ssh("a", "sudo sh -c 'echo 10.1.2.3 istiod.istio-system.svc >>/etc/hosts; touch /run/before-reboot'")
    ready.ssh("a", "sudo systemctl reboot", check=False)
    deadline = time.monotonic() + 60
    while ready.ssh("a", "test ! -e /run/before-reboot", check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert "istiod" in ready.ssh("a", "cat /etc/hosts").stdout
    assert ready.ensure("a")["state"] == "running"


def test_a_killed_machine_comes_back_on_its_disk(ready: Lab) -> None:
    state = dict(ready.states["a"])
    ready.ssh("a", "sudo sh -c 'echo kept >/etc/kept; sync'")
    os.kill(ready.pid("a"), signal.SIGKILL)
    listed = {item["name"]: item["state"] for item in answer("list", {"driver": "nspawn", "owner": OWNER})}
    assert listed[f"a-{RUN_ID}"] == "stopped"
    assert ready.ensure("a") == state
    ready.wait_ready("a")
    assert ready.ssh("a", "cat /etc/kept").stdout == "kept\n"


def test_what_a_lost_host_leaves_is_repaired(ready: Lab) -> None:
    os.kill(ready.pid("a"), signal.SIGKILL)
    lan = driver.Record(**json.loads(layout.Paths(f"a-{RUN_ID}").record.read_text())).lan
    subprocess.run(["iptables", "-F", network.CHAIN], check=True)
    subprocess.run(["ip", "link", "set", lan.bridge, "down"], check=True)
    subprocess.run(["ip", "address", "flush", "dev", lan.bridge], check=True)
    ready.ensure("a")
    ready.wait_ready("a")
    assert ready.look_up("a", ready.states["a"]["address"]) == [ready.states["a"]["address"], f"a-{RUN_ID}"]
    listed = subprocess.run(["iptables", "-S", network.CHAIN], capture_output=True, text=True, check=True).stdout
    assert f"-A {network.CHAIN} -i {lan.bridge} -j DROP" in listed


def test_a_killed_machine_is_made_afresh_for_other_user_data(ready: Lab) -> None:
    first = ready.ensure("g")
    ready.wait_ready("g")
    pid = ready.pid("g")
    os.kill(pid, signal.SIGKILL)
    while Path(
        f"/proc/{pid}/cgroup"
    ).exists():  # a busy host takes a moment; an `ensure` before that finds a machine that runs
        time.sleep(0.01)
    second = ready.ensure("g", marker="second")
    assert second["host_key"] != first["host_key"]
    ready.wait_ready("g")
    assert ready.ssh("g", "cat /etc/made-of").stdout == "second\n"
    ready.delete("g")


@pytest.mark.parametrize("delay", [0.1, 0.15, 0.2, 0.25, 0.3, 0.4])
def test_a_caller_killed_at_any_point_is_repaired(ready: Lab, delay: float) -> None:
    document = json.dumps(ready.spec("h"))
    caller = subprocess.Popen(
        [sys.executable, "-m", "actions", "machines.ensure"], stdin=subprocess.PIPE, text=True, cwd=REPO
    )
    assert caller.stdin
    caller.stdin.write(document)
    caller.stdin.close()
    time.sleep(delay)
    caller.kill()
    caller.wait()
    ready.ensure("h")
    ready.wait_ready("h")
    ready.delete("h")


def test_a_machine_outlives_its_callers_session(ready: Lab) -> None:
    caller = subprocess.Popen(
        [sys.executable, "-m", "actions", "machines.ensure"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPO,
        start_new_session=True,
    )
    out, _ = caller.communicate(json.dumps(ready.spec("i")))
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        with pytest.raises(ProcessLookupError):
            os.killpg(caller.pid, number)
    ready.states["i"] = json.loads(out)
    ready.wait_ready("i")
    ready.delete("i")


def test_other_mounts_restart_it_on_its_disk(ready: Lab) -> None:
    pid = ready.pid("a")
    ready.ensure("a", mounts=[])
    ready.wait_ready("a")
    assert ready.pid("a") != pid
    assert ready.ssh("a", "ls /opt/artifacts").stdout == ""


def test_a_range_in_use_is_refused_and_leaves_nothing(ready: Lab) -> None:
    message = refusal("ensure", ready.spec("j", {"name": "other", "cidr": "10.213.64.128/25"}))
    assert "overlaps the host's route 10.213.64.0/24" in message
    assert not layout.Paths(f"j-{RUN_ID}").var.exists()


def test_what_cannot_be_is_refused_in_one_line(ready: Lab) -> None:
    assert "python -m lab.rootfs" in refusal("ensure", ready.spec("k", image="/nowhere"))
    assert "no host name" in refusal("ensure", ready.spec("k") | {"name": "../k"})
    assert "folder" in refusal("ensure", ready.spec("k", mounts=[{"source": "/nowhere", "target": "/opt/x"}]))
    assert "colour: Unexpected keyword argument" in refusal("ensure", ready.spec("k", colour="red"))
    assert "choose one of" in refusal("list", {"driver": "virtualbox", "owner": OWNER})


def test_after_the_last_machine_nothing_is_left(ready: Lab) -> None:
    names = [state["name"] for state in answer("list", {"driver": "nspawn", "owner": OWNER})]
    strangers = [known for known in driver.record.load_all() if known.owner != OWNER]
    saved = {} if strangers else json.loads(network.SAVED_SYSCTLS.read_text())
    bridges = {known.lan.bridge for known in driver.record.load_all() if known.owner == OWNER}
    document = {"driver": "nspawn", "owner": OWNER}
    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(lambda name: answer("delete", document | {"name": name}), names))
    assert answer("delete", document | {"name": names[0]}) == {}
    assert answer("list", document) == []
    ours = [item for item in driver.leftovers() if any(word in item for word in (RUN_ID, *bridges))]
    assert ours == []
    if not strangers:
        assert driver.leftovers() == []
        assert {name: text.strip() for name, text in read_sysctls().items()} == saved
