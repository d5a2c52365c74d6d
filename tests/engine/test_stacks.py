"""Every stack file of the repository previews with nothing at hand: no cluster, no Multipass, no secrets, no files of the lab."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.harness import cpu_seconds

ROOT = Path(__file__).parents[2]
SECONDS = 15
"""How much work a preview may be: seconds of one processor, whatever else runs on this machine."""
STACKS = sorted(path.name.split(".")[1] for path in ROOT.glob("Pulumi.*.yaml"))


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_previews_with_nothing_at_hand(stack: str, tmp_path: Path) -> None:
    shown = run(stack, tmp_path, "-m", "commands", "preview")
    counted = re.search(r"\+ (\d+) to create", shown.stdout)
    assert counted and int(counted[1]) > 40
    first = "cluster-claim" if stack == "staging" else f"{stack}-server-1-machine"
    assert first in shown.stdout
    assert "PRIVATE KEY" not in shown.stdout
    warned = stack in ("lab", "staging", "prod")
    assert ("does not exist" in shown.stdout) == warned, "files that the stack needs from this machine are warned of"


@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_gets_its_comment_with_nothing_at_hand(stack: str, tmp_path: Path) -> None:
    comment = run(stack, tmp_path, "-m", "commands", "pull-request", "preview").stdout
    first, second, *_ = comment.splitlines()
    assert first == f"<!-- istio-vms preview: {stack} -->"
    assert re.fullmatch(rf"### Stack `{stack}` is not up yet: \d+ to create", second)
    assert "PRIVATE KEY" not in comment


def run(stack: str, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a module on a stack with nothing at hand."""
    assert shutil.which("pulumi"), "run make tools"
    kept = ("PATH", "LANG")
    env = {key: os.environ[key] for key in kept if key in os.environ}
    env |= {"HOME": str(home), "STACK": stack, "KUBECONFIG": str(home / "nothing")}
    began = cpu_seconds()
    ran = subprocess.run([sys.executable, *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert cpu_seconds() - began < SECONDS
    return ran
