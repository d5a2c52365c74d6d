"""The workflows of GitHub and GitLab: nothing that moves by itself, no right that a job does not need, scripts that do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / ".github/workflows"
WORKFLOWS = sorted(FOLDER.glob("*.yml"))
PINNED = r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+"


def workflow(name: str) -> dict[Any, Any]:
    """A workflow; YAML takes its key `on` for true."""
    return yaml.safe_load((FOLDER / f"{name}.yml").read_text())


def steps() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path in WORKFLOWS:
        for name, job in workflow(path.stem)["jobs"].items():
            for step in job["steps"]:
                yield path.stem, name, step


def test_every_workflow_is_looked_at() -> None:
    assert [path.stem for path in WORKFLOWS] == ["deploy", "drift", "pull-request"]


def test_every_action_is_pinned_by_its_commit() -> None:
    used = [line.strip() for path in WORKFLOWS for line in path.read_text().splitlines() if "uses:" in line]
    assert len(used) > 5
    assert [line for line in used if not re.fullmatch(rf"(- )?uses: {PINNED}", line)] == []


def test_no_action_has_two_pins() -> None:
    pins = {line.split("uses: ")[1] for path in WORKFLOWS for line in path.read_text().splitlines() if "uses: " in line}
    assert len(pins) == len({pin.split("@")[0] for pin in pins})


def test_code_of_forks_gets_no_rights() -> None:
    assert workflow("pull-request")[True] == {"pull_request": None}
    assert all("pull_request_target" not in path.read_text() for path in WORKFLOWS)


def test_a_job_has_the_rights_it_needs_and_what_writes_runs_no_packages() -> None:
    writes: dict[str, Any] = {}
    for path in WORKFLOWS:
        assert workflow(path.stem)["permissions"] == {}
        for name, job in workflow(path.stem)["jobs"].items():
            rights = dict(job["permissions"])
            assert rights.pop("contents") == "read"
            if rights:
                writes[f"{path.stem} {name}"] = rights
                runs = [step["run"] for step in job["steps"] if "run" in step]
                assert runs and all(run.startswith("python3 -m review.post ") for run in runs)
    assert writes == {"pull-request comment": {"pull-requests": "write"}, "drift issue": {"issues": "write"}}


def test_no_token_stays_in_a_checkout() -> None:
    checkouts = [step for *_, step in steps() if "checkout" in step.get("uses", "")]
    assert all(step["with"]["persist-credentials"] is False for step in checkouts)


def test_what_others_may_name_reaches_scripts_by_the_environment_only() -> None:
    assert [step["run"] for *_, step in steps() if "${{" in step.get("run", "")] == []


def test_a_job_ends_by_itself() -> None:
    assert all(job["timeout-minutes"] for path in WORKFLOWS for job in workflow(path.stem)["jobs"].values())


def test_up_waits_for_approval_and_for_the_one_before() -> None:
    up = workflow("deploy")["jobs"]["up"]
    assert up["environment"] == "${{ matrix.stack }}"
    assert up["concurrency"] == {"group": "deploy-${{ matrix.stack }}"}, "what runs is not cancelled"


def script(name: str, job: str, holding: str) -> dict[str, Any]:
    (found,) = [s for w, j, s in steps() if (w, j) == (name, job) and holding in s.get("run", "")]
    return found


def bash(run: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """As GitHub runs a step whose shell is bash."""
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", run],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with a merge, and our Python in it, which writes down what it was asked."""
    folder = tmp_path / "checkout"
    (folder / ".venv/bin").mkdir(parents=True)
    (folder / ".gitignore").write_text(".venv/\nasked\n")
    python = folder / ".venv/bin/istio-vms"
    python.write_text(
        '#!/bin/sh\necho "$*" >>asked\nenv | grep ^PULUMI >>asked\nsort | tr "\\n" " " >>asked\nexit "${FAILS:-0}"\n'
    )
    python.chmod(0o755)
    begin = """
        git init -q -b main . && git config user.name me && git config user.email me@here
        echo 1 >Pulumi.dev.yaml; echo 1 >kept; git add . && git commit -qm one
        git checkout -qb change && echo 2 >Pulumi.lab.yaml && git mv kept docs.md && git add . && git commit -qm two
        git checkout -q main && echo 2 >Pulumi.dev.yaml && git commit -qam three && git merge -q --no-edit change
    """
    assert bash(begin, folder, HOME=str(tmp_path)).returncode == 0
    return folder


def asked(checkout: Path) -> list[str]:
    return (checkout / "asked").read_text().split("\n")


def test_a_pull_request_is_what_it_adds_to_its_base(checkout: Path, tmp_path: Path) -> None:
    step = script("pull-request", "stacks", "git diff")
    assert bash(step["run"], checkout, GITHUB_OUTPUT=str(tmp_path / "output")).returncode == 0
    assert asked(checkout) == ["pull-request stacks --json", "Pulumi.lab.yaml docs.md kept "], (
        "both names of a moved file"
    )
    assert (tmp_path / "output").read_text() == "stacks=\n"


@pytest.mark.parametrize("before", ["HEAD^1", "", "0" * 40])
def test_a_push_is_what_came_with_it_else_everything(before: str, checkout: Path, tmp_path: Path) -> None:
    step = script("deploy", "stacks", "git diff")
    env = {"GITHUB_OUTPUT": str(tmp_path / "output"), "BEFORE": before, "DEPLOYED": '["a"]'}
    assert bash(step["run"], checkout, **env).returncode == 0
    changed = (
        "Pulumi.lab.yaml docs.md kept " if before == "HEAD^1" else ".gitignore Pulumi.dev.yaml Pulumi.lab.yaml docs.md "
    )
    assert asked(checkout) == ['pull-request stacks --json --of ["a"]', changed]


def test_stacks_that_cannot_be_told_fail_the_job(checkout: Path, tmp_path: Path) -> None:
    step = script("pull-request", "stacks", "git diff")
    assert bash(step["run"], checkout, GITHUB_OUTPUT=str(tmp_path / "output"), FAILS="1").returncode != 0


def test_a_stack_that_is_well_is_told_apart(checkout: Path) -> None:
    run = script("drift", "look", "pull-request preview")["run"].replace(".venv/bin/istio-vms", "./look")
    (checkout / "look").write_text('#!/bin/sh\nshift 3; echo text >"$2"; exit "$FAILS"\n')
    (checkout / "look").chmod(0o755)
    env = {"PULUMI_BACKEND_URL": "", "PULUMI_ACCESS_TOKEN": "", "PULUMI_CONFIG_PASSPHRASE": ""}
    for stack, fails in (("well", "0"), ("gone", "1")):
        assert bash(run, checkout, STACK=stack, FAILS=fails, **env).returncode == int(fails)
    found = sorted(path.relative_to(checkout / "found").as_posix() for path in (checkout / "found").rglob("*.md"))
    assert found == ["drifted/gone.md", "well/well.md"]


def test_gitlab_has_the_same() -> None:
    header, jobs = yaml.safe_load_all((ROOT / "ci/gitlab.yml").read_text())
    assert set(header["spec"]["inputs"]) == {"stacks", "image"}
    scripts = {name: "\n".join(job["script"]) for name, job in jobs.items() if "script" in job}
    assert list(scripts) == [
        f"istio-vms-{name}" for name in ("test", "stacks", "preview", "comment", "up", "drift", "issue")
    ]
    for name, text in scripts.items():
        checked = subprocess.run(["bash", "-n", "-c", text], capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, ""), name
    posting = {name for name, text in scripts.items() if "review.post" in text}
    assert posting == {"istio-vms-comment", "istio-vms-issue"}
    assert all(jobs[name]["extends"] == ".istio-vms-post" for name in posting)
    assert json.dumps(jobs).count("$[[ inputs.stacks ]]") == 3
