"""No secret of a stack lies about in plaintext: the real engine and program, with providers that make nothing, up, changed and down.

What is looked through: every file that is there while they run and afterwards, and the arguments and environments of all processes.
"""

from __future__ import annotations

import base64
import os
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from commands import __main__ as cli
from lab.tools import plugins
from ops import engine, policies, state, workspace
from ops.event_log import EventLog
from ops.workspace import Stack
from tests.engine.harness import children
from tests.engine.hollow import answers

ROOT = Path(__file__).parents[2]
HOLLOW = Path(__file__).parent / "hollow/bin"
DEV = (ROOT / "Pulumi.dev.yaml").read_text()
BEFORE = "key of the version before"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, a home, a state folder and a temporary folder of their own."""
    checkout = tmp_path / "checkout"
    for made in (checkout, tmp_path / "temporary", tmp_path / "home"):
        made.mkdir()
    for path in ROOT.iterdir():
        if not re.fullmatch(r"\.git|Pulumi\..+\.yaml", path.name):
            (checkout / path.name).symlink_to(path)
    (checkout / "Pulumi.dev.yaml").write_text(DEV)
    for name in [name for name in os.environ if name.startswith("PULUMI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(plugins, "STAND_INS", HOLLOW)
    for name, value in {"PULUMI_HOME": "pulumi", "XDG_STATE_HOME": "state", "TMPDIR": "temporary"}.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setenv("STACK", "dev")
    for module in (workspace, engine):
        monkeypatch.setattr(module, "ROOT", checkout)
    monkeypatch.setattr(workspace, "get_tools", lambda *_, **__: None)
    return tmp_path


class Search:
    """Looks for pieces of secrets, as they are and in base64."""

    def __init__(self, folder: Path, secrets: dict[str, str]) -> None:
        self._folder = folder
        self.found: set[str] = set()
        self.processes = 0
        self._pieces: dict[bytes, str] = {}
        for what, text in secrets.items():
            self._pieces[text.strip().splitlines()[0].encode()] = what
            # Without what depends on the length of what is beside it.
            self._pieces[base64.b64encode(text.encode())[:16]] = f"{what} in base64"

    def among(self, where: str, content: bytes) -> None:
        self.found |= {f"{what} in {where}" for piece, what in self._pieces.items() if piece in content}

    def files(self) -> None:
        for path in self._folder.rglob("*"):
            with suppress(OSError):
                if path.is_file() and not path.is_symlink() and path.name != "passphrase":
                    self.among(str(path.relative_to(self._folder)), path.read_bytes())

    def running(self) -> None:
        for process in children(os.getpid()):
            for name in ("cmdline", "environ"):
                with suppress(OSError):
                    self.among(f"{name} of a process", Path(f"/proc/{process}/{name}").read_bytes())
                    self.processes += 1

    @contextmanager
    def meanwhile(self) -> Generator[None]:
        """Look again and again for as long as the block runs."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(0.05):
                with suppress(OSError):
                    self.running()
                    self.files()

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        self.files()


def modes(folder: Path) -> list[str]:
    """What of a folder somebody else may do something with."""
    return [str(path) for path in (folder, *folder.rglob("*")) if path.lstat().st_mode & 0o077]


def test_nothing_leaves_a_secret_in_plaintext(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.umask(0o022)
    home = folder / "state/istio-vms"
    old = home / "stacks/dev/events.jsonl"
    old.parent.mkdir(parents=True)
    old.write_text(BEFORE)
    stack = Stack.open("dev")
    secrets = {
        "SSH key": answers.PRIVATE_KEY, "join token": answers.TOKEN, "kubeconfig's token": "hunter2",
        "passphrase": (home / "passphrase").read_text(), "old log": BEFORE,
    }  # fmt: skip
    search = Search(folder, secrets)
    with search.meanwhile(), EventLog() as log:
        words = ("--yes", "--skip-preview", "--suppress-outputs")
        engine.operate(stack, "up", *words, log=log)
        assert any("diagnosticEvent" in event for event in log.events()), "the engine logs into memory"
        assert modes(home) == []
        file = workspace.ROOT / "Pulumi.dev.yaml"
        file.write_text(DEV.replace("- {name: vm-2}", "- {name: vm-2, cpus: 2}"))
        policies.judged_preview(Stack.open("dev"))
        monkeypatch.setattr("sys.argv", ["istio-vms", "preview"])
        assert cli.main() == 0
        engine.operate(Stack.open("dev"), "up", *words)
        outputs = state.outputs(Stack.find("dev").deployment())
        assert outputs["sshPrivateKey"] == answers.PRIVATE_KEY
        assert "hunter2" in outputs["kubeconfig"]
        assert modes(home) == []
        engine.operate(stack, "destroy", "--yes", "--skip-preview", "--skip-config-validation")
    assert search.found == set()
    assert search.processes > 100
    assert [path.name for path in (folder / "temporary").iterdir() if path.is_file()] == []
