"""Nodes join and leave through whichever server answers."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from components import ssh
from components.cluster import membership
from components.cluster.membership import ANSWERS, NodeRequest, leave, member
from components.command_line import Failure

SERVERS = ("server-1", "server-2", "server-3")


@dataclass
class Servers:
    """Servers of which some are dead, and some have no API; what was run on which."""

    dead: tuple[str, ...] = ()
    silent: tuple[str, ...] = ()
    failing: str = ""
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
        return ""


def request(node: str, servers: tuple[str, ...] = SERVERS) -> NodeRequest:
    listed = [
        {"name": name, "ssh": {"host": name, "user": "u", "private_key": "k", "host_key": "h"}} for name in servers
    ]
    return NodeRequest.model_validate({"node": node, "servers": listed})


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


def test_a_server_leaves_through_another_one_and_not_as_the_last() -> None:
    servers = Servers()
    leave(request("server-1"), quiet, servers.connect)
    ((host, script),) = servers.ran
    assert host == "server-2"
    assert "for fellow in server-2 server-3" in script


def test_an_agent_may_always_leave() -> None:
    servers = Servers()
    leave(request("agent-1"), quiet, servers.connect)
    assert servers.ran == [("server-1", "kubectl delete node agent-1 --ignore-not-found --timeout=30s")]


def test_what_a_server_refuses_is_not_asked_of_the_next() -> None:
    servers = Servers(failing="it is the last server")
    with pytest.raises(Failure, match="server-2: it is the last server"):
        leave(request("server-1"), quiet, servers.connect)
    assert len(servers.ran) == 1


def test_without_any_server_each_ones_reason_is_told() -> None:
    with pytest.raises(Failure, match="server-1 cannot be reached\nserver-2: no API"):
        member(request("agent-1", SERVERS[:2]), quiet, Servers(dead=("server-1",), silent=("server-2",)).connect)
