"""Previews to render: captured ones in `previews/`, and steps made up for one test.

The captured ones are what Pulumi 3.250 printed for this program and stack `dev`, brought up against providers that make nothing;
`drift` after two objects were deleted and one changed. Cut from them: what is not read (source positions, dependencies, the
configuration, outputs), most of the user-data, and most steps of `change-image` and refreshes of `drift`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from review.preview import Preview, read

PREVIEWS = Path(__file__).parent / "previews"
COMMAND = "istio-vms:machines:Machine$command:local:Command"
SERVICE = "istio-vms:workloads:VmWorkload$kubernetes:core/v1:Service"

MARKDOWN = MarkdownIt("commonmark").enable("table")
EVIL = (
    "a|b",
    "`x`",
    "``",
    "`|`",
    "\\|",
    "a\\",
    " lead",
    "@admin #1 https://evil.example",
    "</details><script>alert(1)</script>",
    "<!-- istio-vms preview: lab -->",
    "line\n\n# heading\n```\n> quote",
    "right\u202eleft",
    "\x00\x1b[31m",
    "[x](javascript:alert(1)) ![i](http://evil.example/i.png)",
    "*bold* _it_ ~~no~~ &amp; &#124;",
    "",
)
"""Text that tries to be something else."""


def captured(name: str) -> Preview:
    return read((PREVIEWS / f"{name}.json").read_bytes())


def step(op: str, types: str = SERVICE, name: str = "app", **more: Any) -> dict[str, Any]:
    """A step as it is printed; `old` and `new` are the inputs, `diff` the kinds of the differences by path."""
    urn = f"urn:pulumi:dev::istio-vms::{types}::{name}"
    states = {
        key: {"inputs": more.pop(side)} for side, key in (("old", "oldState"), ("new", "newState")) if side in more
    }
    diff = {path: {"kind": kind, "inputDiff": True} for path, kind in more.pop("diff", {}).items()} or None
    return {"op": op, "urn": urn, "detailedDiff": diff, **states, **more}


def document(*steps: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {"steps": list(steps), "changeSummary": {"same": 1}, **more}


def preview(*steps: Mapping[str, Any], **more: Any) -> Preview:
    return read(json.dumps(document(*steps, **more)))


def unescaped(text: str) -> str:
    """What a text looks like where it is shown in one line."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
