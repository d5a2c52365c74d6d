"""The policies on a stack: as a pack inside the engine where it can run one, else the same functions over a preview's JSON.

A pack sees resources as they are to be, each before it is made, with everything in it. What an update would delete or replace the engine
shows to no pack, so that is judged from the steps that it logs. See docs/policies.md.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lab.tools.cache import cache_root
from ops import engine
from ops.errors import OpsError, reason
from ops.event_log import EventLog
from ops.workspace import ROOT, Stack
from review.judge import Judged, judge, violations, worst_first
from review.model import Change, Found, Violation
from review.preview import read
from review.rules import RULES
from review.rules.levels import Levels, file_of

PACK = Path(__file__).resolve().parent.parent / "review/pack"
_HOST = "pulumi-language-python"


def not_in_engine(env: Mapping[str, str]) -> str:
    """Why the engine cannot run the pack; empty when it can.

    It runs a Python pack by the language host on PATH. That of a Pulumi release can; that of the lab, which is older, by what is built
    with it as `pulumi-language-python`: the host itself lies beside that as `…-host`.
    """
    if importlib.util.find_spec("pulumi_policy") is None:
        return "the package pulumi-policy is not installed"
    found = shutil.which(_HOST, path=env.get("PATH"))
    if not found:
        return f"there is no {_HOST}"
    program = Path(found).resolve()
    built = program.is_relative_to(cache_root().resolve())
    if built and not program.with_name(f"{_HOST}-host").exists() and not _released(program):
        return f"{program} is too old to run one; `make tools` gets another"
    return ""


def _released(program: Path) -> bool:
    """Whether a tool in our cache is its publisher's release."""
    receipt = program.parent / "receipt.json"
    return receipt.exists() and '"source": "official"' in receipt.read_text()


def flags(stack: Stack) -> list[str]:
    """What has the engine run the pack; nothing when it cannot.

    Raises:
        Failure: the stack's levels cannot be used.
    """
    Levels.of_stack(stack.name)
    if not_in_engine(stack.env):
        return []
    return ["--policy-pack", str(PACK), "--policy-pack-config", str(file_of(stack.name))]


def judged_preview(stack: Stack) -> Judged:
    """Preview the stack and judge it; what the preview prints is not shown.

    Raises:
        OpsError: it could not be previewed, for another reason than a policy.
        Failure: Pulumi printed what is not known.
    """
    if not_in_engine(stack.env):
        text = stack.pulumi(*stack.on_stack("preview", "--json", "--show-sames"), cwd=ROOT)
        return judge(read(text), Levels.of_stack(stack.name))
    with EventLog() as log:
        ran = stack.run(*stack.on_stack("preview", *flags(stack)), log=log)
        judged = of_events(stack, log.events())
        if ran.returncode and not judged.stops:
            raise OpsError(_why(engine.failures(log.events()), ran))
    return judged


def _why(failed: list[engine.Failed], ran: subprocess.CompletedProcess[str]) -> str:
    """Why a preview that nobody saw failed: what its log has, else what it said last."""
    said = [f"{one.name}: {one.reason}" for one in failed]
    return "the preview failed: " + ("\n  ".join(said) or reason(ran.stderr.strip() or ran.stdout))


def of_events(stack: Stack, events: Iterable[Mapping[str, Any]]) -> Judged:
    """The pack's violations that the events of an operation have, and those in what it deletes and replaces."""
    known = {rule.name: rule for rule in RULES}
    found: Found = []
    changes: list[Change] = []
    resources = 0
    for event in events:
        if said := event.get("policyEvent"):
            message = said["message"].partition("\n")[2].strip()
            violation = Violation(engine.plain(message), said.get("resourceUrn", ""))
            found.append((said["enforcementLevel"], known[said["policyName"]], violation))
        if step := event.get("resourcePreEvent", {}).get("metadata"):
            changes.append(Change(step["op"], step["urn"]))
        if summary := event.get("summaryEvent"):
            resources = sum(number for op, number in summary["resourceChanges"].items() if op != "delete")
    found += violations(changes, Levels.of_stack(stack.name))
    return Judged(worst_first(found), resources)


def before_up(stack: Stack) -> None:
    """Where a policy may stop an update, see that none does before anything is made.

    Raises:
        OpsError: one does.
    """
    own = Levels.of_stack(stack.name)
    if not_in_engine(stack.env) or any(own.level(rule) == "mandatory" for rule in RULES):
        tell(stack, judged_preview(stack))


def after_preview(stack: Stack, log: EventLog) -> None:
    """What a preview that was shown with the pack's violations has not told yet; `log` is its own.

    Raises:
        OpsError: a mandatory policy is violated.
    """
    if not_in_engine(stack.env):
        tell(stack, judged_preview(stack))
        return
    judged = of_events(stack, log.events())
    rest = [entry for entry in judged.found if entry[1].changes]
    tell(stack, Judged(rest, judged.resources), quiet=True)


def tell(stack: Stack, judged: Judged, *, quiet: bool = False) -> None:
    """Show the violations; `quiet` says nothing when there are none.

    Raises:
        OpsError: a mandatory policy is violated.
    """
    if why := not_in_engine(stack.env):
        print(f"policies: over the preview's JSON, not in the engine: {why}", flush=True)
    if judged.found or not quiet:
        judged.show(stack.name)
    if judged.stops:
        raise OpsError(
            f"{judged.stops} violation(s) of mandatory policies, see above; nothing was changed. "
            f"Put them right, or say in review/levels/{stack.name}.json what this stack may do (docs/policies.md)"
        )
