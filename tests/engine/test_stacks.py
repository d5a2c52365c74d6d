"""Every stack file of the repository previews with nothing at hand: no cluster, no Multipass, no secrets, no files of the lab."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STACKS = sorted(path.name.split(".")[1] for path in ROOT.glob("Pulumi.*.yaml"))


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_previews_with_nothing_at_hand(stack: str, tmp_path: Path) -> None:
    assert shutil.which("pulumi"), "run make tools"
    kept = ("PATH", "LANG")
    env = {key: os.environ[key] for key in kept if key in os.environ}
    env |= {"HOME": str(tmp_path), "STACK": stack, "KUBECONFIG": str(tmp_path / "nothing")}
    shown = subprocess.run(
        [sys.executable, "-m", "ops", "preview"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    counted = re.search(r"\+ (\d+) to create", shown.stdout)
    assert counted and int(counted[1]) > 40
    assert f"{stack}-server-1-machine" in shown.stdout
    assert "PRIVATE KEY" not in shown.stdout
    assert ("does not exist" in shown.stdout) == (stack == "lab"), "files of the lab that are missing are warned of"
