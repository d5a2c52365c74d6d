"""The comment for real changes: previews by the real engine, of the real program, against the state that an `up` has left.

`up` and the previews run with providers that make nothing (`hollow`); what differs is found by the engine and the stand-ins' own code.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from commands import __main__ as cli
from lab.tools import plugins
from ops import engine, workspace
from ops.workspace import Stack
from tests.conftest import Golden
from tests.engine.harness import cpu_seconds

ROOT = Path(__file__).parents[2]
GOLDENS = Path(__file__).parent / "golden/pull_request"
HOLLOW = Path(__file__).parent / "hollow/bin"
DEV = (ROOT / "Pulumi.dev.yaml").read_text()
SECONDS = 20
"""How much work the preview of a stack may be: seconds of one processor, whatever else runs on this machine."""


@dataclass
class Checkout:
    """The repository with a stack file of its own."""

    folder: Path
    patch: pytest.MonkeyPatch

    def comment(self, text: str) -> str:
        """What a pull request with this stack file is told."""
        (self.folder / "Pulumi.dev.yaml").write_text(text)
        output = self.folder.parent / "comment.md"
        self.patch.setattr(sys, "argv", ["istio-vms", "pull-request", "preview", "--output", str(output)])
        began = cpu_seconds()
        assert cli.main() == 0, output.read_text()
        assert cpu_seconds() - began < SECONDS
        # The engine's ids of commands are random.
        return re.sub(r"(?<=-machine)[0-9a-f]{8}\b", "ID", output.read_text())


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    """Stack dev, brought up."""
    folder = tmp_path_factory.mktemp("team") / "checkout"
    folder.mkdir()
    for path in ROOT.iterdir():
        if not re.fullmatch(r"\.git|Pulumi\..+\.yaml", path.name):
            (folder / path.name).symlink_to(path)
    (folder / "Pulumi.dev.yaml").write_text(DEV)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PULUMI_")]:
            patch.delenv(name)
        patch.setattr(plugins, "STAND_INS", HOLLOW)
        patch.setenv("PULUMI_HOME", str(folder.parent / "pulumi"))  # no official providers
        patch.setenv("XDG_STATE_HOME", str(folder.parent / "state"))
        patch.setenv("STACK", "dev")
        patch.setattr(workspace, "ROOT", folder)
        patch.setattr(engine, "ROOT", folder)
        patch.setattr(workspace, "get_tools", lambda *_, **__: None)
        engine.operate(Stack.open("dev"), "up", "--yes", "--skip-preview", "--suppress-outputs")
        yield Checkout(folder, patch)


def replaced(old: str, new: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


CHANGES = {
    "resize-a-machine": replaced("- {name: vm-1}", "- {name: vm-1, cpus: 2, memory: 2Gi}"),
    "resize-the-server": replaced(
        "servers: {count: 1, cpus: 2, memory: 3Gi", "servers: {count: 1, cpus: 4, memory: 6Gi"
    ),
    "add-a-vm": replaced("        - {name: vm-2}\n", "        - {name: vm-2}\n        - {name: vm-4}\n"),
    "bump-istio": lambda text: replaced("1-30-5", "1-30-6")(replaced("1.30.5", "1.30.6")(text)),
    "shift-a-port": replaced("hub: docker.io/istio\n", "hub: docker.io/istio\n    eastWestPorts: {istiod: 16012}\n"),
    "rename-a-workload": replaced("external-app", "external-web"),
}
LOST = {
    "resize-a-machine": [],
    "resize-the-server": [],
    "add-a-vm": [],
    "bump-istio": ["istiod-1-30-5"],
    "shift-a-port": [],
    "rename-a-workload": [],
}
"""What is called out above everything else. A machine is resized in place; a renamed workload's VMs are the same machines."""


def test_the_same_settings_are_no_change(dev: Checkout) -> None:
    assert "Stack `dev`: no changes" in dev.comment(DEV)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_told(dev: Checkout, golden: Golden, change: str) -> None:
    comment = dev.comment(CHANGES[change](DEV))
    golden(GOLDENS / f"{change}.md", comment)
    assert re.findall(r"^> - `(.+?)` is \*\*", comment, re.MULTILINE) == LOST[change]
    assert not any(secret in comment for secret in ("hunter2", "PRIVATE", "TOKEN"))


def test_a_cluster_that_grows_keeps_what_is_in_it(dev: Checkout) -> None:
    comment = dev.comment(replaced("servers: {count: 1", "servers: {count: 3")(DEV))
    assert "| create | `command:local:Command` | `dev-server-3-k3s` |" in comment
    assert re.findall(r"^\| (?:replace|delete) \| `(.+?)` \| `(.+?)`", comment, re.MULTILINE) == [
        ("command:local:Command", "proof-calls")
    ]


def test_machines_and_servers_that_go_are_called_out(dev: Checkout, golden: Golden) -> None:
    fewer = replaced("agents: {count: 2", "agents: {count: 1")(replaced("        - {name: vm-2}\n", "")(DEV))
    comment = dev.comment(fewer)
    golden(GOLDENS / "remove-machines.md", comment)
    lost = re.findall(r"^> - `(.+?)` is \*\*deleted\*\*: the machine", comment, re.MULTILINE)
    assert lost == ["dev-agent-2-machine", "dev-vm-2-machine"]
