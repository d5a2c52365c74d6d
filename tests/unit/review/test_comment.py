"""The comment: goldens of what real previews become, and what it must not do whatever the preview has in it."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from review import comment
from review.comment import FOLD_ROWS, MAXIMUM_BYTES, marker, render
from review.preview import NOT_KNOWN_YET, Preview, could_not
from review.values import UNKNOWN_STRING
from tests.conftest import Golden
from tests.unit.review.conftest import COMMAND, EVIL, MARKDOWN, PREVIEWS, captured, preview, step, unescaped

GOLDENS = Path(__file__).parent / "golden"
GITHUB_CHARACTERS = 65_536


@pytest.mark.parametrize("name", [path.stem for path in PREVIEWS.glob("*.json")])
def test_a_real_preview(name: str, golden: Golden) -> None:
    golden(GOLDENS / f"{name}.md", render("dev", captured(name), drift=name == "drift"))


@pytest.mark.parametrize("path", sorted(PREVIEWS.glob("*.json")), ids=lambda path: path.stem)
def test_every_comment_is_one_that_can_be_posted(path: Path) -> None:
    text = render("dev", captured(path.stem))
    assert text.startswith("<!-- istio-vms preview: dev -->\n### Stack `dev`")
    assert len(text) < GITHUB_CHARACTERS
    assert re.findall("</?details>", text) == ["<details>", "</details>"] * text.count("<details>")


ENGINE_GOLDENS = Path(__file__).parents[2] / "engine/golden/pull_request"


@pytest.mark.parametrize("change", ["resize-a-machine", "add-a-vm", "bump-istio", "shift-a-port", "rename-a-workload"])
def test_the_documentation_shows_what_is_rendered(change: str) -> None:
    page = (Path(__file__).parents[3] / "docs/pull-requests.md").read_text()
    _, *shown = (ENGINE_GOLDENS / f"{change}.md").read_text().partition("<details><summary>Full diff")[0].splitlines()
    assert "\n".join(f"> {line}".rstrip() for line in shown).rstrip("\n> ") in page


def headline(seen: Preview, *, drift: bool = False) -> str:
    return render("dev", seen, drift=drift).splitlines()[1]


def test_a_comment_of_drift_has_a_marker_of_its_own() -> None:
    assert marker("dev", drift=True) == "<!-- istio-vms drift: dev -->" != marker("dev")
    assert render("dev", captured("drift"), drift=True).startswith(marker("dev", drift=True))


def test_drift_is_told_in_the_headline() -> None:
    assert headline(captured("no-change"), drift=True) == "### Stack `dev` has not drifted"
    assert "has drifted; to put it right: 1 to update, 2 to create" in headline(captured("drift"), drift=True)
    assert render("dev", captured("new-stack"), drift=True).count("\n") == 2, "what is not up has nothing to show"


def test_a_failure_is_never_no_changes() -> None:
    text = render("dev", could_not("no stack named 'dev' found"))
    assert "### Stack `dev` could not be previewed" in text
    assert "\n```\nno stack named 'dev' found\n```\n" in text
    said = {"severity": "error", "message": "error: preview failed\n"}
    assert "no reason was given" in render("dev", preview(diagnostics=[said]))


def test_what_failed_is_named_and_noise_is_not() -> None:
    text = render("dev", captured("wrong-input"))
    assert "\nbad: error: command:local:Command resource 'bad'" in text
    assert "pulumi-resource" not in text


def test_a_warning_is_said_once_and_folded() -> None:
    said = {"severity": "warning", "message": "warning: the folder does not exist\n"}
    text = render("dev", preview(diagnostics=[said, said, {"severity": "info", "message": "hello"}]))
    assert text.count("the folder does not exist") == 1
    assert "<summary>Warnings</summary>" in text
    assert "hello" not in text


def test_a_diagnostic_with_a_secret_is_not_shown() -> None:
    said = {"severity": "error", "message": "error: got -----BEGIN OPENSSH PRIVATE KEY-----\nhunter2"}
    text = render("dev", preview(diagnostics=[said]))
    assert "hunter2" not in text
    assert "[secret]" in text


def test_a_state_that_may_be_corrupt_is_told() -> None:
    assert "may be corrupt" in render("dev", preview(maybeCorrupt=True))


def cautions(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("> - ")]


@pytest.mark.parametrize("op", ["delete", "replace"])
@pytest.mark.parametrize(
    ("types", "name"),
    [
        (COMMAND, "lab-vm-1-machine"),
        ("istio-vms:cluster:K3sCluster$command:remote:Command", "lab-server-2-k3s"),
        ("istio-vms:mesh:ControlPlane$kubernetes:helm.sh/v3:Release", "istio-base"),
        ("istio-vms:mesh:ControlPlane$kubernetes:helm.sh/v3:Release", "istiod-1-30-3"),
    ],
)
def test_what_is_lost_is_called_out_above_the_table(op: str, types: str, name: str) -> None:
    text = render("dev", preview(step(op, types, name)))
    (line,) = cautions(text)
    assert f"`{name}` is **{op}d**: " in line
    assert text.index("[!CAUTION]") < text.index(line) < text.index("| type |")


@pytest.mark.parametrize(
    ("op", "types", "name"),
    [
        ("update", COMMAND, "lab-vm-1-machine"),
        ("create", "kubernetes:helm.sh/v3:Release", "istiod-1-30-3"),
        ("delete", "kubernetes:helm.sh/v3:Release", "istio-ingressgateway"),
        ("delete", "istio-vms:workloads:VmMember$command:local:Command", "vm-1-join"),
        ("delete", "istio-vms:cluster:K3sCluster$command:remote:Command", "lab-agent-1-k3s"),
        ("delete", "istio-vms:machines:Machine", "lab-vm-1"),
        ("refresh", COMMAND, "lab-vm-1-machine"),
    ],
)
def test_what_is_not_lost_is_not_called_out(op: str, types: str, name: str) -> None:
    assert cautions(render("dev", preview(step(op, types, name)))) == []


def test_the_machines_of_a_changed_image_are_all_called_out() -> None:
    lines = cautions(render("dev", captured("change-image")))
    names = [re.findall("`(.*?)`", line)[0] for line in lines]
    machines = [f"dev-{name}-machine" for name in ("agent-1", "agent-2", "server-1", "vm-1", "vm-2", "vm-3")]
    assert sorted(names) == sorted([*machines, "dev-server-1-k3s", "istio-base", "istiod-1-30-3"])


def rows(text: str) -> list[list[str]]:
    """The table's cells as they are read, without its heading."""
    cells = [
        "".join(child.content for child in token.children or ())
        for token in MARKDOWN.parse(text)
        if token.type == "inline" and token.level == 4
    ]
    return [cells[i : i + 4] for i in range(4, len(cells), 4)]


def test_the_table_has_the_worst_first() -> None:
    told = ("create", "update", "same", "replace", "refresh", "delete")
    text = render("dev", preview(*(step(op, name=op, old={"a": 1}, new={"a": 2}) for op in told)))
    assert [(row[0], row[2]) for row in rows(text)] == [(op, op) for op in ("delete", "replace", "update", "create")]


def test_what_only_may_change_is_told_apart() -> None:
    sure = step("update", name="resized", old={"a": 1, "b": 1}, new={"a": 2, "b": UNKNOWN_STRING})
    waits = step("update", name="waits", old={"b": 1}, new={"b": UNKNOWN_STRING})
    hidden = step(
        "update", name="hidden", old={"stdin": "[secret]"}, new={"stdin": "[secret]"}, diff={"stdin": "update"}
    )
    lost = step("replace", name="lost", old={"b": 1}, new={"b": UNKNOWN_STRING})
    provider = step("update", name="by-provider")
    reason = step("update", name="by-reason", diffReasons=["version"])
    told = preview(sure, waits, hidden, lost, provider, reason)
    assert headline(told).startswith("### Stack `dev`: 1 to replace, 3 to update, 2 may change;")
    first, second = render("dev", told).split(
        "<details><summary>2 may change: they take values that only up knows</summary>"
    )
    assert [row[2] for row in rows(first)] == ["lost", "by-reason", "hidden", "resized"]
    assert re.findall(r"`([\w-]+)` \|.*\|$", second, re.MULTILINE) == ["by-provider", "waits"]


def test_what_the_tables_say_is_no_warning() -> None:
    said = {"severity": "warning", "message": f"warning: {NOT_KNOWN_YET}\nThis preview may not be right.\n"}
    assert "Warnings" not in render("dev", preview(diagnostics=[said]))


def test_a_row_names_what_changes() -> None:
    old, new = {"a": 1, "b": "x" * 40, "stdin": "[secret]"}, {"a": 2, "b": "y", "c": 3, "stdin": "[secret]"}
    diff = {"a": "update-replace", "b": "update", "c": "add", "stdin": "update"}
    (row,) = rows(render("dev", preview(step("replace", old=old, new=new, diff=diff))))
    assert row == ["replace", "kubernetes:core/v1:Service", "app", "a: 1 → 2 (replaces), b, c, stdin"]


def test_a_row_names_some_of_many_changes() -> None:
    old, new = {f"k{i}": {"v": i} for i in range(6)}, {f"k{i}": {"v": -1} for i in range(6)}
    (row,) = rows(
        render("dev", preview(step("update", old=old, new=new, diff={f"k{i}.v": "update" for i in range(6)})))
    )
    assert row[3] == "k0.v: 0 → -1, k1.v: 1 → -1, k2.v: 2 → -1, k3.v: 3 → -1, 2 more"


def test_a_replacement_without_a_reason_of_its_own() -> None:
    assert rows(render("dev", preview(step("replace"))))[0][3] == "together with what it depends on"


def test_a_long_table_is_folded() -> None:
    few, many = ([step("create", name=f"n{i}") for i in range(count)] for count in (FOLD_ROWS, FOLD_ROWS + 1))
    assert "resources</summary>" not in render("dev", preview(*few))
    assert f"<summary>{FOLD_ROWS + 1} resources</summary>" in render("dev", preview(*many))


def blocks(text: str) -> list[str]:
    return [token.content for token in MARKDOWN.parse(text) if token.type == "fence"]


@pytest.mark.parametrize("evil", EVIL)
def test_text_of_others_stays_text(evil: str) -> None:
    one = step("update", name=f"n{evil}", old={"a": "-", evil: 1}, new={"a": evil, evil: 2})
    said = [{"severity": severity, "message": evil} for severity in ("error", "warning")]
    text = render("dev", preview(one, diagnostics=said))
    (row,) = rows(text)
    assert row[:3] == ["update", "kubernetes:core/v1:Service", unescaped(f"n{evil}")]
    assert {token.type for token in MARKDOWN.parse(text)} <= {
        *("heading_open", "heading_close", "inline", "html_block", "fence"),
        *(f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td") for end in ("open", "close")),
    }
    markup = [token for token in MARKDOWN.parse(text) if token.type == "html_block"]
    allowed = r"(<!-- istio-vms preview: dev -->|</?details>(<summary>[\w ]+</summary>)?)\n?"
    assert all(re.fullmatch(allowed, token.content) for token in markup), [token.content for token in markup]
    spans = {child.type for token in MARKDOWN.parse(text) for child in token.children or ()}
    assert spans <= {"text", "code_inline"}
    assert unescaped(f"+   a: {json.dumps(evil, ensure_ascii=False)}") in blocks(text)[-1].splitlines()


def long(count: int, width: int = 100) -> Sequence[dict[str, object]]:
    return [step("create", name=f"resource-{i}", new={"text": "x" * width, "more": "`" * 7}) for i in range(count)]


def test_a_diff_that_is_too_long_is_cut_with_a_note() -> None:
    text = render("dev", preview(*long(300)))
    assert MAXIMUM_BYTES - 1000 < len(text.encode()) <= MAXIMUM_BYTES
    assert text.endswith("\ncut: a comment has no room for more; `make preview` shows all 900 lines\n\n</details>\n")
    (shown,) = blocks(text)
    assert shown.startswith("@@ create kubernetes:core/v1:Service resource-0 @@\n")
    assert len(rows(text)) == 300, "the table comes before the diff"


def test_a_diff_is_cut_when_it_does_not_fit_and_not_before() -> None:
    def with_lines(count: int, last: int) -> str:
        values = {f"k{i:03}": "x" * 300 for i in range(count)} | {"last": "x" * last}
        return render("dev", preview(*long(150), step("create", new=values)))

    one = len(with_lines(1, 0)) - len(with_lines(0, 0))
    room = (MAXIMUM_BYTES - len(with_lines(0, 0))) // one
    texts = [with_lines(count, last) for count in range(room - 1, room + 2) for last in range(0, one, 15)]
    whole = [len(text) for text in texts if "cut:" not in text]
    assert len(whole) < len(texts)
    assert MAXIMUM_BYTES - 15 <= max(whole) <= MAXIMUM_BYTES
    assert all(len(text) <= MAXIMUM_BYTES for text in texts)


@pytest.mark.parametrize("char", ["x", "é", "→", "😀", "\x07", "`"])
def test_nothing_makes_a_comment_too_long(char: str) -> None:
    name = f"{char * 300}-machine"
    many = [
        step("replace", COMMAND, f"{name}{i}-machine", diff={"a": "update"}, old={"a": 1}, new={"a": 2})
        for i in range(900)
    ]
    said = [
        {"severity": severity, "message": char * 900 + str(i)} for i in range(99) for severity in ("error", "warning")
    ]
    text = render("dev", preview(*many, diagnostics=said))
    assert len(text.encode()) <= MAXIMUM_BYTES
    assert re.search(r"> - and \d+ more\n", text)
    assert re.search(r"\d+ more are not shown: a comment has no room for them\.\n", text)
    assert re.search(r"\ncut: a comment has no room", text)


def test_the_parts_leave_room_for_the_diff() -> None:
    said = 2 * comment.DIAGNOSTIC_BYTES
    assert comment.WARNING_BYTES + comment.TABLE_BYTES + said + 10_000 < MAXIMUM_BYTES < GITHUB_CHARACTERS
