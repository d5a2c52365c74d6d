"""Two commands at once on one stack, and what a run leaves: through `make`, as a user does. Needs root and Linux."""

import base64
import os
import re
import shlex
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.e2e.conftest import Environment
from tests.trial import Trial, trial

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="nspawn machines need Linux and root"),
]
CIDRS = {"cluster": "10.107.0.0/24", "vm": "10.107.1.0/24"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Generator[Trial]:
    """One server and one VM."""
    with trial(tmp_path_factory.mktemp("together"), "sec", CIDRS) as made:
        cluster, first = made.settings["istio-vms:cluster"], made.settings["istio-vms:workloads"][0]
        cluster["agents"] = {"count": 0}
        first["vms"] = [{"name": "vm-1", "network": "cluster"}]
        made.settings["istio-vms:workloads"] = [first]
        for table in ("samples", "policies", "telemetry", "traffic"):
            del made.settings[f"istio-vms:{table}"]
        del made.settings["istio-vms:mesh"]["exposedServices"]
        made.write_settings()
        yield made


def at_once(stack: Trial) -> list[str]:
    """What two `up` say that begin a moment after each other; one of them has to end well."""
    first = stack.start("up")
    time.sleep(0.3)
    runs = [run.wait() for run in (stack.start("up"), first)]
    assert sorted(run.code != 0 for run in runs) == [False, True], [run.text for run in runs]
    return [run.text for run in runs if run.code]


def test_the_second_of_two_ups_is_told_who_is_at_work(stack: Trial) -> None:
    """Also of the first ever, before Pulumi has a lock, or anything."""
    for _ in range(2):
        (said,) = at_once(stack)
        told = said.strip().splitlines()
        assert any(
            re.match(r"error: stack sec is being worked on by process \d+ \(make up\) since ", line) for line in told
        )
        assert "pulumi cancel" not in said


def test_two_shells_at_once_and_who_only_looks(stack: Trial) -> None:
    runs = [stack.start("ssh", VM=vm, ARGS="hostname; sleep 1") for vm in ("vm-1", "server-1") * 3]
    runs += [stack.start("kubeconfig") for _ in range(3)]
    said = [run.wait().check().text for run in runs]
    assert [text.strip() for text in said[:6]] == ["sec-vm-1", "sec-server-1"] * 3
    assert len(set(said[6:])) == 1 and "clusters:" in Path(said[6].strip()).read_text()


def test_nothing_has_a_secret_in_plaintext(stack: Trial) -> None:
    """After `up` twice, shells, and a preview: everything in the state folder, logs and temporary files, and what processes show."""
    stack.make("preview").check()
    env = Environment(stack)
    home = stack.state / "istio-vms"
    left = [
        path for path in stack.state.parent.rglob("*") if path.is_file() and not path.is_relative_to(stack.checkout)
    ]
    left += [path for path in Path("/tmp").glob("tmp*") if path.is_file()]
    shown = [process / name for process in Path("/proc").glob("[0-9]*") for name in ("cmdline", "environ")]
    for what, secret in env.secrets().items():
        forms = (secret.encode(), base64.b64encode(secret.encode())[:16])
        found = [path for path in (*left, *shown) if any(form in content(path) for form in forms)]
        assert found == ([env.kubeconfig] if what == "admin's key" else []), what
    assert [path for path in (home, *home.rglob("*")) if path.lstat().st_mode & 0o077] == []
    assert not list(home.glob("stacks/sec/lent-*"))


def content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_stack_whose_file_is_broken_is_looked_at_and_taken_down(stack: Trial) -> None:
    (stack.checkout / "Pulumi.sec.yaml").write_text("config:\n\tistio-vms:machines: {}\n")
    refused = stack.make("up")
    assert refused.code and "Pulumi.sec.yaml:2:1: is no YAML" in refused.text and "Traceback" not in refused.text
    assert shlex.split(stack.make("kubeconfig").check().text)
    stack.make("down").check()
    assert stack.machines() == {}
    assert not (stack.state / "istio-vms").exists()
