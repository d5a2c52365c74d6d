"""The one comment that a pull request has for a stack: what `up` would change in it, what is lost by that first."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from review.changes import changes
from review.differences import Difference
from review.markdown import block, code, fitting, folded, row, size
from review.model import ACTIONS, ENDED, MACHINE_SUFFIX, MACHINE_TYPES
from review.post import marker
from review.preview import Diagnostic, Preview, Step
from review.values import ABSENT, MASKED, Secret, Unknown

MAXIMUM_BYTES = 65_000
"""GitHub takes 65,536 characters."""
WARNING_BYTES, DIAGNOSTIC_BYTES, TABLE_BYTES = 4_000, 8_000, 24_000
"""What a part may take at most; the full diff gets what is left."""
FOLD_ROWS = 30
"""A longer table is folded."""
CELL_CHANGES = 4
"""How many properties a row names."""
SHORT = 30
"""A value that long is shown in the table."""

Told = tuple[Step, Sequence[Difference]]
"""A step with what it changes."""

_RELEASE = "kubernetes:helm.sh/v3:Release"
_SERVER = "a server of the cluster with what it keeps of Kubernetes' state"
_LOST: Sequence[tuple[str, str, str]] = (
    (
        MACHINE_TYPES,
        rf".*{MACHINE_SUFFIX}",
        "the machine with all that is on its disk (a host of driver `existing` stays)",
    ),
    ("command:local:Command", r".*-server-\d+-k3s", _SERVER),
    ("command:remote:Command", r".*-server-\d+-k3s", _SERVER),
    (_RELEASE, r"istio-base", "the definitions of Istio's objects, and with them every such object"),
    (_RELEASE, r"istiod-.*", "the control plane of every sidecar that has this revision"),
)
"""End of the resource's types, its name, and what goes with it: nothing of it comes back by itself."""


def render(stack: str, preview: Preview, *, drift: bool = False) -> str:
    """The comment as Markdown, within GitHub's limit.

    Args:
        stack: the stack's name.
        preview: what Pulumi printed.
        drift: whether it is about what was changed behind Pulumi's back (`--refresh`), and not about a pull request.
    """
    # The engine works on many at once: in its own order the same change would be another comment each time.
    told = [(step, changes(step)) for action in ACTIONS for step in sorted(preview.having(action), key=_place)]
    sure, waiting = [one for one in told if not _waits(*one)], [one for one in told if _waits(*one)]
    lines = [marker(stack, drift=drift), f"### {_headline(stack, preview, drift, sure, waiting)}", ""]
    lines += [*_said(preview), *_warnings(step for step, _ in told)]
    if told and not (drift and preview.new):
        lines += [*_table(sure), *_table(waiting, f"{len(waiting)} may change: they take values that only up knows")]
        lines += _diff([line for one in (*sure, *waiting) for line in _difference(*one)], size(lines))
    return "\n".join(lines).rstrip() + "\n"


def _waits(step: Step, what: Sequence[Difference]) -> bool:
    """Whether the resource is updated only if a value that is not known yet turns out to be another one."""
    if step.action != "update" or (not what and step.diff_reasons):
        return False
    return all(isinstance(change.new, Unknown) for change in what)


def _headline(stack: str, preview: Preview, drift: bool, sure: Sequence[Told], waiting: Sequence[Told]) -> str:
    name = f"Stack {code(stack)}"
    numbers = Counter(step.action for step, _ in sure)
    parts = [f"{numbers[action]} to {action}" for action in ACTIONS if numbers[action]]
    counts = ", ".join([*parts, *([f"{len(waiting)} may change"] if waiting else [])])
    same = f"; {same} unchanged" if (same := preview.change_summary.get("same")) else ""
    if preview.stopped:
        return f"{name} violates mandatory policies"
    if preview.failed:
        return f"{name} could not be {'looked at' if drift else 'previewed'}"
    if drift and preview.new:
        return f"{name} is not up: nothing can have drifted"
    if not counts:
        return f"{name} has not drifted" if drift else f"{name}: no changes"
    if drift:
        return f"{name} has drifted; to put it right: {counts}{same}"
    return f"{name}{' is not up yet' if preview.new else ''}: {counts}{same}"


def _said(preview: Preview) -> list[str]:
    """Errors, and warnings after them."""
    lines = ["> [!WARNING]", "> The engine says that the state may be corrupt.", ""] if preview.maybe_corrupt else []
    errors, warnings = (_texts(preview.diagnostics, severity) for severity in ("error", "warning"))
    if preview.failed:
        lines += [*(errors or block(["no reason was given; the log may have more"])), ""]
    return lines + (folded("Warnings", warnings) if warnings else [])


def _texts(diagnostics: Iterable[Diagnostic], severity: str) -> list[str]:
    """What was said, each thing once, as a block; empty for nothing."""
    said = sorted({one.text for one in diagnostics if one.severity == severity})
    lines = [line for text in said for line in text.splitlines()]
    kept = fitting(lines, DIAGNOSTIC_BYTES)
    return block([*kept, *(["…"] if len(kept) < len(lines) else [])]) if lines else []


def _warnings(steps: Iterable[Step]) -> list[str]:
    """What is lost for good, above everything else."""
    lost = [
        f"> - {code(step.name)} is **{ENDED[step.op]}**: {loss}"
        for step in steps
        if step.op in ENDED
        for types, name, loss in _LOST
        if step.qualified_type.endswith(types) and re.fullmatch(name, step.name)
    ]
    if not lost:
        return []
    kept = fitting(lost, WARNING_BYTES)
    more = [f"> - and {len(lost) - len(kept)} more"] if len(kept) < len(lost) else []
    return ["> [!CAUTION]", "> What goes does not come back:", *kept, *more, ""]


def _place(step: Step) -> tuple[str, str, str]:
    """What belongs together stands together: by type, then name."""
    return step.type, step.name, step.urn


def _row(step: Step, what: Sequence[Difference]) -> str:
    assert step.action
    return row([step.action, code(step.type), code(step.name), _cell(step, what)])


def _cell(step: Step, what: Sequence[Difference]) -> str:
    if step.action in ("create", "delete"):
        return ""
    named = [_short(change) for change in what[:CELL_CHANGES]] or [code(reason) for reason in step.diff_reasons]
    if len(what) > CELL_CHANGES:
        named.append(f"{len(what) - CELL_CHANGES} more")
    return ", ".join(named) or ("together with what it depends on" if step.action == "replace" else "")


def _short(change: Difference) -> str:
    replaces = " (replaces)" if change.replaces else ""
    values = [_shown(value) for value in (change.old, change.new)]
    if MASKED in values or not all(0 < len(value) <= SHORT for value in values):
        return f"{code(change.path)}{replaces}"
    return f"{code(change.path)}: {code(values[0])} → {code(values[1])}{replaces}"


def _table(told: Sequence[Told], summary: str = "") -> list[str]:
    """One row for each; folded where that is many, or where there is a summary to fold them under."""
    if not told:
        return []
    rows = [_row(*one) for one in told]
    kept = fitting(rows, TABLE_BYTES)
    lines = [row(["", "type", "name", "what changes"]), row(["---"] * 4), *kept]
    if len(kept) < len(rows):
        lines += ["", f"{len(rows) - len(kept)} more are not shown: a comment has no room for them."]
    return folded(summary or f"{len(rows)} resources", lines) if summary or len(rows) > FOLD_ROWS else [*lines, ""]


def _difference(step: Step, what: Sequence[Difference]) -> Iterator[str]:
    """A step in the full diff."""
    yield f"@@ {step.action} {step.type} {step.name} @@"
    for change in what:
        old, new = _shown(change.old), _shown(change.new)
        if old == new:
            yield f"!   {change.path}: {new}"
            continue
        if change.old is not ABSENT:
            yield f"-   {change.path}: {old}"
        if change.new is not ABSENT:
            yield f"+   {change.path}: {new}"


def _diff(lines: Sequence[str], used: int) -> list[str]:
    whole = folded("Full diff", block(lines, "diff"))
    if used + size(whole) <= MAXIMUM_BYTES:
        return whole
    note = f"cut: a comment has no room for more; `make preview` shows all {len(lines)} lines"
    # A block's lines are as long as they come out of it, its fence is as long as its longest run of backticks.
    inside = block(lines, "diff")
    room = MAXIMUM_BYTES - used - size(folded("Full diff", [inside[0], inside[-1], "", note]))
    return folded("Full diff", [inside[0], *fitting(inside[1:-1], room), inside[-1], "", note])


def _shown(value: Any) -> str:
    """A value as text: JSON, but for what is secret or not known yet. Empty for none."""
    if value is ABSENT:
        return ""
    if isinstance(value, Secret):
        return MASKED
    if isinstance(value, Unknown):
        return "(known after up)"
    return json.dumps(value, ensure_ascii=False, default=_shown)
