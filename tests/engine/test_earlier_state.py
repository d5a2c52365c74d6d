"""A state that an earlier version wrote: nothing that it has is replaced or goes.

`states/before-actions.json.xz` is what an `up` of stack dev left, with providers that make nothing (`hollow`), before what acts on the
world had a room and a registry of its own: `pulumi stack export --show-secrets`, without the secrets provider.
"""

from __future__ import annotations

import json
import lzma
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.tools import plugins
from ops import engine
from ops.event_log import EventLog
from ops.workspace import Stack

ROOT = Path(__file__).parents[2]
HOLLOW = Path(__file__).parent / "hollow/bin"
STATE = Path(__file__).parent / "states/before-actions.json.xz"


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Stack dev of the repository, with that state."""
    for name in [name for name in os.environ if name.startswith("PULUMI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(plugins, "STAND_INS", HOLLOW)
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "pulumi"))  # no official providers
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = Stack.open("dev")
    own = json.loads(made.pulumi("stack", "export", "--stack", "dev"))
    with lzma.open(STATE, "rt") as file:
        earlier = json.load(file)
    earlier["deployment"]["secrets_providers"] = own["deployment"]["secrets_providers"]
    (tmp_path / "earlier.json").write_text(json.dumps(earlier))
    made.pulumi("stack", "import", "--stack", "dev", "--file", str(tmp_path / "earlier.json"))
    yield made


def previewed(stack: Stack) -> dict[str, set[str]]:
    """What the engine would do to resources: the operations, and the names of those that each would be done to."""
    done: dict[str, set[str]] = {}
    with EventLog() as log:
        engine.operate(stack, "preview", log=log)
        for event in log.events():
            step = event.get("resourcePreEvent", {}).get("metadata")
            if step:
                done.setdefault(step["op"], set()).add(step["urn"].rsplit("::", 1)[-1])
    return done


def test_nothing_that_it_has_is_replaced_or_goes(stack: Stack) -> None:
    shown = previewed(stack)
    assert shown["create"] == {"namespaces"}
    # Before its VMs have joined again nobody knows whether the calls have to be made again.
    others = {name for op, names in shown.items() if op not in ("same", "create", "update") for name in names}
    assert others == {"proof-calls"}


def test_down_over_it_finds_every_action(stack: Stack) -> None:
    deployment = stack.deployment()
    commands = {
        (one.get("inputs") or {}).get("delete")
        for one in deployment["resources"]
        if one["type"] == "command:local:Command"
    }
    modules = {str(command).split()[2] for command in commands if command and command.startswith("python3 -m ")}
    assert modules == {"components.machines", "components.cluster", "components.workloads"}
    assert all((ROOT / module.replace(".", "/") / "__main__.py").exists() for module in modules)
