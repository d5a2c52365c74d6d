"""Files with secrets: nobody else reads them, several writers do not disturb each other, and what a killed process leaves goes."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from commands import __main__ as cli
from ops.files import lent_file, secret_file, secret_folder
from ops.workspace import Stack
from tests.unit.ops.conftest import Api, World, deployment
from tests.unit.ops.test_workspace import mode

ROOT = Path(__file__).parents[3]
LENDS = """\
import os, signal, sys
from pathlib import Path
from ops.files import lent_file
with lent_file(Path(sys.argv[1]), "key", "hunter2"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_several_at_once_write_a_whole_file_each(tmp_path: Path) -> None:
    texts = [letter * 200_000 for letter in "abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: secret_file(tmp_path / "kubeconfig", text), texts * 5))
    assert (tmp_path / "kubeconfig").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["kubeconfig"]


def test_folders_above_are_private_too(tmp_path: Path) -> None:
    made = secret_folder(tmp_path / "a/b/c")
    assert [mode(path) for path in (made, made.parent, made.parent.parent)] == [0o700] * 3


def test_a_lent_file_goes_when_it_is_given_back(tmp_path: Path) -> None:
    with lent_file(tmp_path, "key", "hunter2") as path:
        assert (mode(path), mode(path.parent), path.read_text()) == (0o600, 0o700, "hunter2")
    assert list(tmp_path.iterdir()) == []


LEFT = {
    "events.jsonl": "hunter2", "policies.jsonl": "hunter2", "id_ed25519": "hunter2", "tmpabc/kubeconfig": "hunter2",
}  # fmt: skip
"""What versions before this one left."""


@pytest.mark.parametrize("verb", ["up", "preview", "kubeconfig", "ssh", "down", "policy"])
def test_any_command_removes_what_others_left_and_closes_what_was_open(
    world: World, stack: Stack, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, verb: str
) -> None:
    world.program("ssh", "#!/bin/sh\n")
    monkeypatch.setenv("PATH", f"{world.bin}:{os.environ['PATH']}")
    world.put("deployment.json", deployment(api))
    world.put("up.code", "1")
    other = secret_folder(stack.folder.parent / "other")
    for folder in (stack.folder, other):
        for name, text in LEFT.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text)
    subprocess.run([sys.executable, "-c", LENDS, str(other)], cwd=ROOT, check=False)
    assert [path for path in other.iterdir() if path.name.startswith("lent-")]
    with lent_file(other, "ours", "of a process that lives") as lent:
        stack.config_file.chmod(0o644)
        monkeypatch.setenv("STACK", "lab")
        monkeypatch.setenv("VM", "vm-1")
        monkeypatch.setattr(sys, "argv", ["istio-vms", verb])
        cli.main()
        assert lent.exists()
    files = [path for path in world.home.rglob("*") if path.is_file()]
    assert [path for path in files if "hunter2" in path.read_text() and path.name != "kubeconfig"] == []
    assert [path for path in [*files, *world.home.rglob("*")] if path.exists() and mode(path) & 0o077] == []


def test_pulumi_writes_for_its_user_alone_but_in_a_folder_that_somebody_named(
    world: World, stack: Stack, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    os.umask(0o022)
    world.program("pulumi", "#!/bin/sh\numask >>$FAKE_WORLD/umask\n")
    stack.run("stack", "ls")
    monkeypatch.setenv("PULUMI_BACKEND_URL", f"file://{tmp_path}/team")
    Stack("lab", {**stack.env, "PULUMI_BACKEND_URL": f"file://{tmp_path}/team"}).run("stack", "ls")
    assert (world.folder / "umask").read_text().split() == ["0077", "0022"]
