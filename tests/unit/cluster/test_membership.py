"""Nodes join and leave through whichever server answers."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from actions import ssh
from actions.cluster import membership
from actions.cluster.k3s_files import leave_script, member_script, register_script, renumber_script
from actions.cluster.membership import ANSWERS, NodeRequest, RenumberRequest, leave, member, renumber
from actions.protocol import Failure

SERVERS = ("server-1", "server-2", "server-3")


@dataclass
class Servers:
    """Servers of which some are dead, and some have no API; what was run on which."""

    dead: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    failing: str = ""
    says: list[str] = field(default_factory=list[str])
    ran: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    @contextmanager
    def connect(self, *, host: str, **_: Any) -> Generator[Any]:
        if host in self.dead:
            raise ssh.SshError(f"{host} cannot be reached")
        yield Session(self, host)


@dataclass
class Session:
    servers: Servers
    host: str

    def run(self, script: str, timeout: float) -> str:
        if script == ANSWERS:
            if self.host in self.servers.silent:
                raise ssh.CommandError("no API", 1)
            return ""
        self.servers.ran.append((self.host, script))
        if self.servers.failing:
            raise ssh.CommandError(self.servers.failing, 1)
        return self.servers.says.pop(0) if self.servers.says else ""


def request(node: str, servers: tuple[str, ...] = SERVERS, **further: Any) -> NodeRequest:
    listed = [
        {"name": name, "ssh": {"host": name, "user": "u", "private_key": "k", "host_key": "h"}} for name in servers
    ]
    return NodeRequest.model_validate({"node": node, "servers": listed, **further})


MACHINE = {"host": "the-machine", "user": "u", "private_key": "k", "host_key": "h"}
ABSENT = "absent\n"


def quiet(_: str) -> None:
    pass


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("READY_SECONDS", "SCRIPT_SECONDS"):
        monkeypatch.setattr(membership, name, 0)


@pytest.mark.parametrize(("node", "through"), [("agent-1", "server-1"), ("server-2", "server-2")])
def test_a_node_is_waited_for_at_its_own_api_or_the_first(node: str, through: str) -> None:
    servers = Servers()
    assert member(request(node), quiet, servers.connect) == {"node": node}
    assert [host for host, _ in servers.ran] == [through]


@pytest.mark.parametrize("down", [{"dead": ("server-1",)}, {"silent": ("server-1",)}])
@pytest.mark.parametrize("act", [member, leave])
def test_a_server_that_does_not_answer_is_passed_over(act: Any, down: dict[str, Any]) -> None:
    servers = Servers(**down)
    act(request("agent-1"), quiet, servers.connect)
    assert [host for host, _ in servers.ran] == ["server-2"]


def test_a_node_is_waited_for_where_its_machine_is_if_that_is_told() -> None:
    servers = Servers()
    for address in ("10.89.0.12", ""):
        member(request("agent-1").model_copy(update={"address": address}), quiet, servers.connect)
    assert ["10.89.0.12" in script for _, script in servers.ran] == [True, False]


def test_a_server_leaves_through_another_one_and_not_as_the_last() -> None:
    servers = Servers()
    leave(request("server-1"), quiet, servers.connect)
    ((host, script),) = servers.ran
    assert host == "server-2"
    assert "for fellow in server-2 server-3" in script


@pytest.mark.parametrize(("node", "fellows"), [("agent-1", []), ("server-2", ["server-1", "server-3"])])
def test_a_node_that_was_deleted_registers_again(node: str, fellows: list[str]) -> None:
    servers, said = Servers(says=[ABSENT, "k3s was started again\n"]), list[str]()
    assert member(request(node, machine=MACHINE), said.append, servers.connect) == {"node": node}
    through = node if node in SERVERS else "server-1"
    assert servers.ran == [
        (through, member_script(node)),
        ("the-machine", register_script(fellows)),
        (through, member_script(node, patient=True)),
    ]
    assert said == [f"{node} is not in the cluster: k3s was started again", f"{node} is Ready"]


def test_a_node_that_does_not_register_is_told() -> None:
    with pytest.raises(Failure, match="agent-1 does not register with the cluster"):
        member(request("agent-1", machine=MACHINE), quiet, Servers(says=[ABSENT, "", ABSENT]).connect)
    with pytest.raises(Failure, match="and its machine cannot be used: the-machine cannot be reached"):
        member(request("agent-1", machine=MACHINE), quiet, Servers(dead=("the-machine",), says=[ABSENT]).connect)


FORMER = RenumberRequest.model_validate(
    {"node": "agent-1", "machine": MACHINE, "pod_range": "10.42.2.0/24", "former": ["10.42.1.3", "10.42.1.4"]}
)


def test_pods_at_addresses_of_a_former_range_start_anew() -> None:
    servers, said = Servers(), list[str]()
    assert renumber(FORMER, said.append, servers.connect) == {"node": "agent-1"}
    assert servers.ran == [("the-machine", renumber_script("10.42.2.0/24", ["10.42.1.3", "10.42.1.4"]))]
    assert said == ["2 pods start anew, with addresses of 10.42.2.0/24"]


def test_a_machine_that_cannot_be_used_to_renumber_is_told() -> None:
    with pytest.raises(Failure, match=r"the-machine cannot be reached; restart the machine of agent-1"):
        renumber(FORMER, quiet, Servers(dead=("the-machine",)).connect)


def test_a_request_of_before_does_not_have_the_machine() -> None:
    with pytest.raises(Failure, match="agent-1 does not register with the cluster"):
        member(request("agent-1"), quiet, Servers(says=[ABSENT, ABSENT]).connect)
    leave(request("agent-1"), quiet, Servers().connect)


def test_an_agent_may_always_leave() -> None:
    servers = Servers()
    leave(request("agent-1"), quiet, servers.connect)
    assert servers.ran == [("server-1", leave_script("agent-1"))]


def test_what_a_server_refuses_is_not_asked_of_the_next() -> None:
    servers = Servers(failing="it is the last server")
    with pytest.raises(Failure, match="server-2: it is the last server"):
        leave(request("server-1"), quiet, servers.connect)
    assert len(servers.ran) == 1


def test_without_any_server_each_ones_reason_is_told() -> None:
    with pytest.raises(Failure, match="server-1 cannot be reached\nserver-2: no API"):
        member(request("agent-1", SERVERS[:2]), quiet, Servers(dead=("server-1",), silent=("server-2",)).connect)
