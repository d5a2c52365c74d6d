"""The policies on a stack: as a pack inside the engine where it can run one, else the same functions over a preview's JSON.

A pack sees resources as they are to be, each before it is made, with everything in it. What an update would delete or replace the engine
shows to no pack, so that is judged from the steps that it logs. See docs/policies.md.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.tools.cache import cache_root
from ops import engine
from ops.errors import OpsError, reason
from ops.event_log import EventLog
from ops.workspace import ROOT, Stack
from review.judge import Preview, PreviewError, judge, show, wide
from review.rules import RULES
from review.rules.levels import STACKS, Levels, LevelsError
from review.rules.model import Change, Found, Resource, Violation

PACK = Path(__file__).resolve().parent.parent / "review/pack"
_HOST = "pulumi-language-python"


@dataclass(frozen=True)
class Judged:
    """What the policies have against a stack as an update would make it, and how many resources that has."""

    found: Found
    resources: int

    @property
    def stops(self) -> int:
        """How many violations are of mandatory policies."""
        return sum(level == "mandatory" for level, _, _ in self.found)


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


def levels(stack: Stack) -> Levels:
    """Those of the stack.

    Raises:
        OpsError: its file cannot be used.
    """
    try:
        return Levels.of_stack(stack.name)
    except LevelsError as error:
        raise OpsError(str(error)) from None


def flags(stack: Stack) -> list[str]:
    """What has the engine run the pack; nothing when it cannot."""
    levels(stack)
    if not_in_engine(stack.env):
        return []
    file = STACKS / f"{stack.name}.json"
    return ["--policy-pack", str(PACK), *(["--policy-pack-config", str(file)] if file.exists() else [])]


def judged_preview(stack: Stack) -> Judged:
    """Preview the stack and judge it; what the preview prints is not shown.

    Raises:
        OpsError: it could not be previewed, for another reason than a policy.
    """
    if not_in_engine(stack.env):
        text = stack.pulumi(*stack.on_stack("preview", "--json", "--show-sames"), cwd=ROOT)
        try:
            seen = Preview.parse(text)
        except PreviewError as error:
            raise OpsError(str(error)) from None
        return Judged(judge(seen, levels(stack)), len(seen.resources))
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
    """What the events of an operation have of the pack's violations, and the violations in what it deletes and replaces."""
    known = {rule.name: rule for rule in RULES}
    found: Found = []
    steps: dict[tuple[str, str], Change] = {}
    resources = 0
    for event in events:
        if said := event.get("policyEvent"):
            message = said["message"].partition("\n")[2].strip()
            violation = Violation(engine.plain(message), said.get("resourceUrn", ""))
            found.append((said["enforcementLevel"], known[said["policyName"]], violation))
        if step := event.get("resourcePreEvent", {}).get("metadata"):
            steps[step["op"], step["urn"]] = Change(step["op"], Resource(step["urn"], {}, secrets_hidden=True))
        if summary := event.get("summaryEvent"):
            resources = sum(number for op, number in summary["resourceChanges"].items() if op != "delete")
    of_stack = levels(stack)
    for rule in RULES:
        level = of_stack.level(rule)
        if rule.changes and level != "disabled":
            found += [(level, rule, one) for one in rule.changes(list(steps.values()), of_stack.options(rule))]
    return Judged(sorted(found, key=lambda entry: entry[0] != "mandatory"), resources)


def before_up(stack: Stack) -> None:
    """Where a policy may stop an update, see that none does before anything is made.

    Raises:
        OpsError: one does.
    """
    of_stack = levels(stack)
    if not_in_engine(stack.env) or any(of_stack.level(rule) == "mandatory" for rule in RULES):
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
        show(judged.found, stack.name, judged.resources, wide())
    if judged.stops:
        raise OpsError(
            f"{judged.stops} violation(s) of mandatory policies, see above; nothing was changed. "
            f"Put them right, or say in review/levels/{stack.name}.json what this stack may do (docs/policies.md)"
        )
