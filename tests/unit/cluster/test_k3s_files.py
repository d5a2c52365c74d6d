"""What makes a node: the files against goldens, and the script when it is run on a file tree of its own."""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import io
import os
import subprocess
import tarfile
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from actions.artifacts import MachineArtifact
from actions.cluster.k3s_files import (
    NodeSpec,
    config_yaml,
    leave_script,
    member_script,
    node_script,
    register_script,
    renumber_script,
    unit,
)
from actions.cluster.node import InstallRequest, begin, install
from actions.protocol import Action, Progress, Ssh
from actions.registry import BEGIN, INSTALL
from tests.conftest import Golden

MACHINE = Ssh(host="h", user="u", private_key="K", host_key="ssh-ed25519 A")
GOLDEN = Path(__file__).parent / "golden"

PLAIN = NodeSpec(
    name="dev-server-1",
    role="server",
    address="10.89.0.11",
    join="",
    version="v1.32.0+k3s1",
    binary=MachineArtifact(
        url="https://example.org/k3s",
        sha256="1" * 64,
        arm64=MachineArtifact(url="https://example.org/k3s-arm64", sha256="2" * 64),
    ),
    pod_cidr="10.42.0.0/16",
    service_cidr="10.43.0.0/16",
)
FULL = dataclasses.replace(
    PLAIN,
    name="lab-server-1",
    binary=MachineArtifact(path="/opt/istio-vms/k3s/k3s"),
    tools=MachineArtifact(path="/opt/istio-vms/k3s/k3s-tools.tar"),
    images=(MachineArtifact(path="/opt/istio-vms/a.tar"), MachineArtifact(path="/opt/istio-vms/b.tar")),
    disable=("metrics-server",),
    config={"kubelet-arg": ["cgroup-driver=cgroupfs"], "node-ip": "10.89.9.9"},
    service_options={"UnsetEnvironment": "INVOCATION_ID", "Restart": "no"},
    containerd_template="version = 2\n# it's {{ .SystemdCgroup }}\n",
)
JOIN = "https://10.89.0.11:6443"
PEERS = tuple(f"https://10.89.0.{number}:6443" for number in (11, 12, 13))
CASES = {
    "server": FULL,
    "agent": dataclasses.replace(FULL, name="lab-agent-1", role="agent", address="10.89.0.12", join=JOIN),
    "plain-server": PLAIN,
    "plain-agent": dataclasses.replace(PLAIN, name="dev-agent-1", role="agent", address="10.89.0.12", join=JOIN),
    "ha-first": dataclasses.replace(PLAIN, peers=PEERS[1:], founder=True),
    "ha-second": dataclasses.replace(
        PLAIN,
        name="dev-server-2",
        address="10.89.0.12",
        peers=("https://k8s.example:6443", *PEERS[::2]),
        endpoint="k8s.example",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_files_are_the_golden_ones(case: str, golden: Golden) -> None:
    golden(GOLDEN / f"{case}.config.yaml", config_yaml(CASES[case]))
    golden(GOLDEN / f"{case}.service", unit(CASES[case]))
    golden(GOLDEN / f"{case}.sh", node_script(CASES[case]))


def test_a_server_has_what_an_agent_has_not() -> None:
    server, agent = (yaml.safe_load(config_yaml(CASES[case])) for case in ("server", "agent"))
    assert server["disable"] == ["traefik", "metrics-server"]
    assert "servicelb" not in server["disable"]
    assert {"server", "cluster-init"}.isdisjoint(server)
    assert agent["server"] == JOIN
    assert {"disable", "tls-san", "cluster-cidr"}.isdisjoint(agent)
    assert agent["node-ip"] == "10.89.9.9", "what the settings say wins"
    for case in ("ha-first", "ha-second"):
        assert {"server", "cluster-init"}.isdisjoint(yaml.safe_load(config_yaml(CASES[case]))), "settled on the machine"
    assert yaml.safe_load(config_yaml(CASES["ha-second"]))["tls-san"] == ["10.89.0.12", "k8s.example"]


@pytest.mark.parametrize("text", [*map(node_script, CASES.values()), member_script("a'b"), leave_script("a'b")])
def test_every_script_is_bash(text: str) -> None:
    assert subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False).stderr == ""


# --------------------------------------------------------------------------------------------- a node of files

SYSTEMCTL = """\
echo "$*" >>"$FAKE/systemctl.log"
case "$1" in
  is-active) [ -e "$FAKE/active" ] ;;
  restart) touch "$FAKE/active"; mkdir -p "$ROOT/etc/rancher/k3s"; echo "kind: Config" >"$ROOT/etc/rancher/k3s/k3s.yaml" ;;
  show) [ "$3" != ExecMainStartTimestamp ] || { cat "$FAKE/since" 2>/dev/null; exit; }; cat "$FAKE/restarts" ;;
esac
"""
JOURNAL = """\
echo 'time="…" level=info msg="starting"'
for i in 1 2 3 4 5 6 7 8 9; do echo 'time="…" level=error msg="failure '$i'"'; done
echo 'E1121 03:00:00 the port is taken'
"""
PROGRAMS = {
    "sudo": 'exec "$@"',
    "systemctl": SYSTEMCTL,
    "journalctl": JOURNAL,
    "hostname": "echo node",
    "sleep": "exit 0",
    "curl": '[ -e "$FAKE/ready" ]',
}
K3S = """\
#!/bin/sh
[ "$1" != --version ] || { printf 'k3s version v1.32.0+k3s1 (cca8faca)\\ngo version go1.23.3\\n'; exit; }
echo "$*" >>"$FAKE/kubectl.log"
[ -e "$FAKE/ready" ]
"""
PLACES = ("/etc/rancher", "/etc/systemd", "/usr/local", "/var/lib/rancher", "/run/istio-vms", "/run/flannel")


def archive(path: Path, content: str, member: str = "index.json") -> None:
    """A tar with one file, compressed as the path says."""
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as tar:
        info = tarfile.TarInfo(member)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content.encode()))


@dataclass
class Node:
    """A file tree that the script takes for a machine, with programs that write down how they were called."""

    root: Path
    fake: Path
    spec: NodeSpec

    @classmethod
    def make(cls, folder: Path, role: str) -> Node:
        root, fake, artifacts = (folder / name for name in ("root", "fake", "artifacts"))
        for path in (root / "run", root / "usr/local/bin", fake, artifacts):
            path.mkdir(parents=True)
        for name, script in PROGRAMS.items():
            (fake / name).write_text(f"#!/bin/sh\n{script}\n")
            (fake / name).chmod(0o755)
        (fake / "restarts").write_text("0\n")
        (fake / "ready").touch()
        subprocess.run(["tar", "-C", str(fake), "-cf", str(artifacts / "tools.tar"), "sudo"], check=True)
        (artifacts / "k3s").write_text(K3S)
        archive(artifacts / "image.tar", "an image")
        made = cls(root, fake, FULL)
        made.sums(artifacts)
        files = {name: MachineArtifact(path=str(artifacts / name)) for name in ("k3s", "tools.tar", "image.tar")}
        made.spec = dataclasses.replace(
            FULL,
            role=role,
            join="" if role == "server" else JOIN,
            binary=files["k3s"],
            tools=files["tools.tar"],
            images=(files["image.tar"],),
        )
        return made

    @staticmethod
    def sums(artifacts: Path) -> None:
        files = [path for path in artifacts.iterdir() if path.name != "SHA256SUMS"]
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
        (artifacts / "SHA256SUMS").write_text("".join(lines))

    def run(
        self, text: str | None = None, token: str = "t0ken", action: Action[Any, Any] = INSTALL
    ) -> subprocess.CompletedProcess[str]:
        """Run the script as the action does, here instead of over SSH."""
        text = node_script(self.spec) if text is None else text
        for place in PLACES:
            text = text.replace(place, f"{self.root}{place}")
        path = f"{self.fake}:{self.root}/usr/local/bin:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "FAKE": str(self.fake), "ROOT": str(self.root)}
        ran: list[subprocess.CompletedProcess[str]] = []

        class Session:
            def run(self, script: str, stdin: bytes, tell: Progress) -> str:
                ran.append(
                    subprocess.run(
                        ["bash", "-c", script],
                        input=stdin.decode(),
                        env=env,
                        capture_output=True,
                        text=True,
                        timeout=60,
                    )
                )
                return ran[0].stdout

        request = InstallRequest(node="n", machine=MACHINE, token=token, script=text)
        {BEGIN.name: begin, INSTALL.name: install}[action.name](request, print, lambda **_: nullcontext(Session()))
        return ran[0]

    def calls(self, program: str) -> list[str]:
        """How a program was called since this was last asked."""
        log = self.fake / f"{program}.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def restarted(self) -> bool:
        return "restart --no-block k3s" in self.calls("systemctl")

    def file(self, path: str) -> Path:
        return self.root / path.removeprefix("/")


@pytest.fixture
def server(tmp_path: Path) -> Node:
    return Node.make(tmp_path, "server")


@pytest.fixture
def agent(tmp_path: Path) -> Node:
    return Node.make(tmp_path, "agent")


def test_a_server_is_ready_once_it_answers_where_its_clients_ask_with_a_certificate_for_that(server: Node) -> None:
    """Not on the loopback, where any certificate will do: one that came back at another address has its old one for a while."""
    server.spec = dataclasses.replace(server.spec, endpoint="k8s.example")
    assert server.run().returncode == 0
    at = "kubectl --server https://10.89.0.11:6443"
    assert [f"kubectl {call}" for call in server.calls("kubectl")] == [
        f"{at} get --raw /readyz",
        f"{at} --tls-server-name k8s.example get --raw /readyz",
    ]


@pytest.mark.parametrize(
    ("address", "seen", "ends"),
    [
        ("10.89.0.12", "there True 10.89.0.12 ", 0),
        ("10.89.0.12", "there True 10.89.0.12 fd00::12 ", 0),
        ("10.89.0.12", "there True 10.89.0.123 ", 1),
        ("10.89.0.12", "there False 10.89.0.12 ", 1),
        ("10.89.0.12", "", 1),
        ("", "there True 10.89.0.11 ", 0),
        ("", "there Unknown 10.89.0.11 ", 1),
    ],
)
def test_a_member_is_waited_for_at_its_address(server: Node, address: str, seen: str, ends: int) -> None:
    (server.fake / "kubectl").write_text(f"#!/bin/sh\necho '{seen}'\n")
    (server.fake / "kubectl").chmod(0o755)
    ran = server.run(member_script("lab-agent-1", address).replace("seq 720", "seq 2"))
    assert ran.returncode == ends
    assert (f"was not Ready{' at 10.89.0.12' if address else ''} after 180 s" in ran.stderr) == bool(ends)


def test_a_binary_of_another_version_is_not_started(server: Node) -> None:
    server.spec = dataclasses.replace(server.spec, version="v1.33.1+k3s1")
    ran = server.run()
    assert ran.returncode == 1
    assert "cluster.version is v1.33.1+k3s1, and cluster.binary is k3s v1.32.0+k3s1: " in ran.stderr
    assert not server.calls("systemctl")
    assert not server.file("/usr/local/bin/k3s").exists(), "a reboot would start it"


def test_a_binary_that_cannot_run_is_not_started(server: Node) -> None:
    artifacts = Path(server.spec.binary.path or "").parent
    (artifacts / "k3s").write_text("#!/bin/sh\nexit 126\n")
    Node.sums(artifacts)
    ran = server.run()
    assert ran.returncode == 1
    assert "cluster.binary is k3s of no version: " in ran.stderr
    assert not server.calls("systemctl")


def test_a_server_gets_its_files_starts_and_prints_only_its_kubeconfig(server: Node) -> None:
    ran = server.run()
    assert (ran.returncode, ran.stdout) == (0, "kind: Config\n"), ran.stderr
    started = ["daemon-reload", "enable --quiet k3s", "reset-failed k3s", "restart --no-block k3s"]
    assert server.calls("systemctl")[:4] == started
    assert ran.stderr.splitlines() == ["node: starting k3s", "node: the API server at 10.89.0.11 is ready"]
    config = yaml.safe_load(server.file("/etc/rancher/k3s/config.yaml").read_text())
    assert config["node-name"] == "lab-server-1"
    assert Path(config["token-file"]).read_text() == "t0ken"
    assert server.file("/usr/local/bin/k3s").read_text() == K3S
    assert os.access(server.file("/usr/local/bin/k3s"), os.X_OK)
    assert server.file("/usr/local/bin/kubectl").readlink() == Path("k3s")
    data = "/var/lib/rancher/k3s/agent"
    artifacts = Path(server.spec.images[0].path or "").parent
    assert server.file(f"{data}/images/istio-vms-00.tar").resolve() == artifacts / "image.tar"
    assert server.file(f"{data}/etc/containerd/config.toml.tmpl").read_text() == FULL.containerd_template
    tools = server.file("/usr/local/lib/istio-vms/k3s/bin")
    assert sorted(path.name for path in tools.iterdir()) == ["containerd", "crictl", "ctr", "sudo"]


def test_an_agent_waits_for_its_kubelet_and_prints_nothing(agent: Node) -> None:
    ran = agent.run()
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    assert ran.stderr.splitlines() == ["node: starting k3s", "node: the kubelet is ready"]
    assert f"server: {JOIN}" in agent.file("/etc/rancher/k3s/config.yaml").read_text()


def test_the_token_is_only_in_a_private_file(server: Node) -> None:
    server.run(token="hunter2")
    assert [
        path for path in server.root.rglob("*") if path.is_file() and "hunter2" in path.read_text(errors="replace")
    ] == [server.file("/etc/rancher/k3s/token")]
    assert server.file("/etc/rancher/k3s/token").stat().st_mode & 0o777 == 0o600


def test_a_second_run_writes_and_restarts_nothing(server: Node) -> None:
    server.run()
    assert server.restarted()
    before = stamps(server)
    ran = server.run()
    assert (ran.returncode, ran.stdout) == (0, "kind: Config\n"), ran.stderr
    assert not server.restarted()
    assert stamps(server) == before


def stamps(node: Node) -> dict[str, tuple[int, int]]:
    """Inode and time of what the script installs."""
    files = [path for path in node.root.rglob("*") if path.is_file() and "/run/" not in str(path)]
    return {str(path): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize(
    "change",
    [
        {"config": {"kubelet-arg": ["max-pods=10"]}},
        {"service_options": {"LimitNOFILE": "1024"}},
        {"containerd_template": "version = 3\n"},
        {"address": "10.89.0.99"},
    ],
)
def test_a_changed_file_restarts(server: Node, change: dict[str, object]) -> None:
    server.run()
    assert server.restarted()
    server.spec = dataclasses.replace(server.spec, **change)  # pyright: ignore[reportArgumentType]
    server.run()
    assert server.restarted()
    server.run()
    assert not server.restarted()


def test_another_token_restarts(server: Node) -> None:
    server.run()
    assert server.restarted()
    server.run(token="another")
    assert server.restarted()


def test_another_k3s_restarts(server: Node, tmp_path: Path) -> None:
    server.run()
    assert server.restarted()
    (tmp_path / "artifacts/k3s").write_text(K3S + "# newer\n")
    Node.sums(tmp_path / "artifacts")
    assert server.run().returncode == 0
    assert server.restarted()
    assert "# newer" in server.file("/usr/local/bin/k3s").read_text()


def test_a_k3s_that_does_not_run_is_started(server: Node) -> None:
    server.run()
    assert server.restarted()
    (server.fake / "active").unlink()
    server.run()
    assert server.restarted()


@pytest.mark.parametrize("lost", ["after the files", "after the start"])
def test_a_run_that_was_cut_off_is_finished_by_the_next(server: Node, lost: str) -> None:
    # A command that fails ends the script where a kill would.
    point = "systemctl daemon-reload" if lost == "after the files" else 'echo "$inputs" >'
    assert server.run(node_script(server.spec).replace(point, f"exit 9\n{point}")).returncode == 9
    server.calls("systemctl")
    assert server.run().returncode == 0
    assert server.restarted()


def test_a_k3s_that_keeps_ending_is_given_up_with_its_last_errors(server: Node) -> None:
    (server.fake / "ready").unlink()
    (server.fake / "restarts").write_text("4\n")
    ran = server.run()
    assert (ran.returncode, ran.stdout) == (1, "")
    *errors, last = ran.stderr.splitlines()[1:]
    assert last == "node: k3s keeps ending; the last errors of k3s are above, all of them in: journalctl -u k3s"
    assert len(errors) == 8
    assert errors[-1] == "E1121 03:00:00 the port is taken"
    assert not [line for line in errors if "level=info" in line]
    # The next run starts it again, though nothing has changed.
    server.calls("systemctl")
    (server.fake / "ready").touch()
    (server.fake / "restarts").write_text("0\n")
    assert server.run().returncode == 0
    assert server.restarted()


@pytest.mark.parametrize(("role", "what"), [("server", "the API server at 10.89.0.11"), ("agent", "the kubelet")])
def test_what_does_not_become_ready_is_waited_for_so_long_and_named(tmp_path: Path, role: str, what: str) -> None:
    node = Node.make(tmp_path, role)
    (node.fake / "ready").unlink()
    ran = node.run(node_script(node.spec).replace("-lt 720 ]", "-lt 5 ]"))
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].startswith(f"node: {what} was not ready after 180 s; ")
    assert node.calls("systemctl").count("show -p NRestarts --value k3s") == 5


def test_a_damaged_artifact_stops_before_anything_is_started(server: Node, tmp_path: Path) -> None:
    (tmp_path / "artifacts/k3s").write_text("something else")
    ran = server.run()
    assert ran.returncode == 1
    assert "SHA-256" in ran.stderr.splitlines()[-1]
    assert server.calls("systemctl") == []


def test_a_node_that_another_run_works_on_is_left_alone(server: Node) -> None:
    lock = server.file("/run/istio-vms-k3s.lock")
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ran = server.run(node_script(server.spec).replace("flock -w 300", "flock -w 0.1"))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "another run still works on this node" in ran.stderr
    assert server.calls("systemctl") == []


# --------------------------------------------------------------------------------------------- membership

KUBECTL = """echo "$*" >>"$FAKE/kubectl.log"
case "$1" in
  get) [ -e "$FAKE/there" ] && printf 'there '; [ -e "$FAKE/ready" ] && printf True; exit 0 ;;
  describe) echo "Conditions: the network is not ready" ;;
esac
"""


@pytest.fixture
def cluster(server: Node) -> Node:
    """A server whose kubectl answers."""
    (server.fake / "kubectl").write_text(f"#!/bin/sh\n{KUBECTL}")
    (server.fake / "kubectl").chmod(0o755)
    (server.fake / "there").touch()
    return server


def test_a_ready_node_is_a_member_at_once(cluster: Node) -> None:
    assert cluster.run(member_script("lab-agent-1")).returncode == 0
    (call,) = cluster.calls("kubectl")
    assert call.startswith("get node lab-agent-1 --ignore-not-found -o jsonpath=there ")


def test_a_node_that_does_not_become_ready_is_described(cluster: Node) -> None:
    (cluster.fake / "ready").unlink()
    ran = cluster.run(member_script("lab-agent-1").replace("seq 720", "seq 3"))
    assert ran.returncode == 1
    assert "Conditions: the network is not ready" in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("node lab-agent-1 was not Ready after 180 s")
    assert [call.split()[0] for call in cluster.calls("kubectl")] == ["get", "get", "get", "describe"]


@pytest.mark.parametrize(("patient", "looks"), [(False, 60), (True, 720)])
def test_a_node_that_the_cluster_does_not_have_is_said_to_be_absent(cluster: Node, patient: bool, looks: int) -> None:
    (cluster.fake / "there").unlink()
    (cluster.fake / "ready").unlink()
    (cluster.fake / "kubectl").write_text('#!/bin/sh\nprintf . >>"$FAKE/looks"\n')
    ran = cluster.run(member_script("lab-agent-1", patient=patient))
    assert (ran.returncode, ran.stdout) == (0, "absent\n")
    assert len((cluster.fake / "looks").read_text()) == looks


def test_a_k3s_that_runs_without_its_node_is_started_again(agent: Node) -> None:
    (agent.fake / "active").touch()
    subnet = agent.file("/run/flannel/subnet.env")
    subnet.parent.mkdir(parents=True)
    subnet.write_text("FLANNEL_SUBNET=10.42.1.1/24\n")
    assert agent.run(register_script()).stdout == "k3s was started again\n"
    assert not subnet.exists(), "pods would start with addresses of the former range until flannel has the new one"
    assert "restart --no-block k3s" in agent.calls("systemctl")
    (agent.fake / "ready").unlink()
    assert agent.run(register_script()).stdout == "", "it registers when its kubelet has started"
    assert "restart --no-block k3s" not in agent.calls("systemctl")
    (agent.fake / "active").unlink()
    assert agent.run(register_script()).stdout == "k3s was started again\n"


def test_a_server_that_etcd_has_put_out_joins_another_one(one_of_three: Node) -> None:
    node = one_of_three
    tombstone = node.file("/var/lib/rancher/k3s/server/db/etcd/tombstone")
    fellows = ("10.89.0.12", "10.89.0.13")
    node.file(JOIN_FILE).parent.mkdir(parents=True)
    node.file(JOIN_FILE).write_text("cluster-init: true")
    assert node.run(register_script(fellows)).returncode == 0
    assert node.file(JOIN_FILE).read_text() == "cluster-init: true", "it is still one of them"
    tombstone.parent.mkdir(parents=True)
    tombstone.touch()
    (node.fake / "active").unlink()
    node.calls("systemctl")
    ran = node.run(register_script(fellows))
    assert (ran.returncode, node.calls("systemctl")) == (1, ["is-active --quiet k3s"])
    assert "no other one answers" in ran.stderr
    (node.fake / "answering").write_text("https://10.89.0.13:6443")
    assert node.run(register_script(fellows)).returncode == 0
    assert node.file(JOIN_FILE).read_text() == "server: https://10.89.0.13:6443\n"


CRICTL = """\
#!/bin/sh
echo "$*" >>"$FAKE/crictl.log"
case "$*" in
  *"pods -q"*) [ -e "$FAKE/removed" ] || echo a; echo b c ;;
  *"rmp "*)
    [ -e "$FAKE/stuck" ] || touch "$FAKE/removed"
    [ ! -e "$FAKE/first" ] || { echo "failed to destroy network for sandbox" >&2; exit 1; } ;;
  *inspectp*a) echo 10.42.1.3 ;;
  *inspectp*b) echo 10.42.1.30 ;;
  *inspectp*c) echo ;;
esac
"""


@pytest.fixture
def renumbered(agent: Node) -> Node:
    """A node that is given a range, with a pod of the former one, one of another, and one of the machine's own network."""
    for path in ("/run/flannel", "/usr/local/lib/istio-vms/k3s/bin"):
        agent.file(path).mkdir(parents=True)
    (agent.file("/usr/local/bin") / "k3s").write_text(CRICTL)
    (agent.file("/usr/local/bin") / "k3s").chmod(0o755)
    return agent


def test_pods_with_addresses_of_a_former_range_are_removed(renumbered: Node) -> None:
    subnet = "FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.2.1/24\n"
    renumbered.file("/run/flannel/subnet.env").write_text(subnet)
    ran = renumbered.run(renumber_script("10.42.2.0/24", ["10.42.1.2", "10.42.1.3", "10.89.0.12"]))
    assert (ran.returncode, ran.stderr) == (0, "")
    removed = [call for call in renumbered.calls("crictl") if " rmp " in call]
    assert [call.rpartition("containerd.sock ")[2] for call in removed] == ["rmp -f a"]


@pytest.mark.parametrize("stuck", [False, True], ids=["the kubelet was first", "it stays"])
def test_a_pod_that_the_kubelet_removes_at_the_same_time_is_no_failure(renumbered: Node, stuck: bool) -> None:
    renumbered.file("/run/flannel/subnet.env").write_text("FLANNEL_SUBNET=10.42.2.1/24\n")
    for name in ("first", "stuck") if stuck else ("first",):
        (renumbered.fake / name).touch()
    ran = renumbered.run(renumber_script("10.42.2.0/24", ["10.42.1.3"]))
    assert ran.returncode == int(stuck)
    assert ("failed to destroy network for sandbox" in ran.stderr) == stuck


@pytest.mark.parametrize("subnet", ["FLANNEL_SUBNET=10.42.21.1/24\n", None])
def test_none_is_removed_while_flannel_would_give_it_such_an_address_again(
    renumbered: Node, subnet: str | None
) -> None:
    if subnet:
        renumbered.file("/run/flannel/subnet.env").write_text(subnet)
    ran = renumbered.run(renumber_script("10.42.2.0/24", ["10.42.1.3"]))
    assert (ran.returncode, renumbered.calls("crictl")) == (1, [])
    assert "flannel has not taken over the node's range 10.42.2.0/24" in ran.stderr


def test_a_node_leaves_with_its_pods(cluster: Node) -> None:
    """Callers would be sent to them for another minute."""
    assert cluster.run(leave_script("lab-agent-1")).returncode == 0
    assert cluster.calls("kubectl") == [
        "delete node lab-agent-1 --ignore-not-found --timeout=30s",
        "delete pods -A --field-selector spec.nodeName=lab-agent-1 --wait=false",
    ]


def test_the_pods_of_a_node_that_cannot_be_removed_stay(cluster: Node) -> None:
    (cluster.fake / "kubectl").write_text('#!/bin/sh\necho "$*" >>"$FAKE/kubectl.log"\nexit 3\n')
    assert cluster.run(leave_script("lab-agent-1")).returncode == 3
    assert len(cluster.calls("kubectl")) == 1


@pytest.mark.parametrize(("ready", "removed"), [("server-2", True), ("server-3", True), ("", False)])
def test_a_server_does_not_leave_as_the_last_that_is_ready(cluster: Node, ready: str, removed: bool) -> None:
    (cluster.fake / "kubectl").write_text(
        f'#!/bin/sh\necho "$*" >>"$FAKE/kubectl.log"\n[ "$1 $3" = "get {ready}" ] && printf True; exit 0\n'
    )
    ran = cluster.run(leave_script("server-1", ("server-2", "server-3")))
    calls = cluster.calls("kubectl")
    assert ("delete node server-1 --ignore-not-found --timeout=30s" in calls) == removed
    assert ("delete pods -A --field-selector spec.nodeName=server-1 --wait=false" in calls) == removed
    assert (ran.returncode == 0) == removed
    assert ("server-1 is the last server that is Ready" in ran.stderr) != removed


# --------------------------------------------------------------------------------------------- several servers

JOINING = """\
case "$*" in
  *:2381/health) [ -e "$FAKE/votes" ] && echo '{"health":"true","reason":""}' || echo '{"health":"false"}' ;;
  *"$(cat "$FAKE/answering" 2>/dev/null || echo nobody)/ping") printf pong ;;
  *) exit 7 ;;
esac
"""
JOIN_FILE = "/etc/rancher/k3s/config.yaml.d/join.yaml"


@pytest.fixture
def one_of_three(server: Node) -> Node:
    """A server of three, new, and in a cluster that nobody has begun yet."""
    (server.fake / "curl").write_text(f"#!/bin/sh\n{JOINING}")
    (server.fake / "votes").touch()
    server.spec = dataclasses.replace(server.spec, join="", peers=PEERS[1:])
    return server


def founding(node: Node) -> Node:
    node.spec = dataclasses.replace(node.spec, founder=True)
    return node


def impatient(node: Node) -> str:
    return node_script(node.spec).replace("-le 300 ]", "-le 3 ]")


def test_the_first_machine_begins_the_cluster_when_it_is_made(one_of_three: Node) -> None:
    assert founding(one_of_three).run(action=BEGIN).returncode == 0
    assert one_of_three.file(JOIN_FILE).read_text() == "cluster-init: true"


def test_a_server_joins_who_answers_even_the_one_that_may_begin(one_of_three: Node) -> None:
    (one_of_three.fake / "answering").write_text("https://10.89.0.13:6443")
    assert founding(one_of_three).run(action=BEGIN).returncode == 0
    assert one_of_three.file(JOIN_FILE).read_text() == "server: https://10.89.0.13:6443"


@pytest.mark.parametrize("case", ["recreated", "emptied"])
def test_no_second_cluster_is_begun_when_nobody_answers(one_of_three: Node, case: str) -> None:
    node = one_of_three if case == "recreated" else founding(one_of_three)
    ran = node.run(impatient(node), action=BEGIN if case == "recreated" else INSTALL)
    assert ran.returncode == 1
    assert "none of the cluster's data, and no other server answers" in ran.stderr
    assert not node.file(JOIN_FILE).exists()
    assert node.calls("systemctl") == []


def test_a_server_with_data_goes_on_without_asking(one_of_three: Node) -> None:
    one_of_three.file("/var/lib/rancher/k3s/server/db/etcd/member/wal").mkdir(parents=True)
    assert one_of_three.run(impatient(one_of_three)).returncode == 0
    assert not one_of_three.file(JOIN_FILE).exists()


def test_the_only_server_so_far_takes_its_data_along(one_of_three: Node) -> None:
    data = one_of_three.file("/var/lib/rancher/k3s/server/db/state.db")
    data.parent.mkdir(parents=True)
    data.touch()
    assert founding(one_of_three).run(impatient(one_of_three)).returncode == 0
    assert one_of_three.file(JOIN_FILE).read_text() == "cluster-init: true"


def test_a_server_is_not_ready_before_its_etcd_member_votes(one_of_three: Node) -> None:
    (one_of_three.fake / "votes").unlink()
    node = founding(one_of_three)
    ran = node.run(node_script(node.spec).replace("-lt 720 ]", "-lt 5 ]"), action=BEGIN)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "node: etcd was not ready after 180 s; " in ran.stderr
