"""`python3 -m review.post comments|issues`: puts rendered comments where people read them, on GitHub or GitLab.

A comment is found again by its first line, the marker, and edited in place. Only what this token's own account wrote
counts: another's comment with our marker is theirs to edit afterwards. Needs nothing but Python, so that the job with the
right to write runs no packages. Where to post comes from the environment that GitHub Actions and GitLab CI give every job,
on GitHub with the pull request's `NUMBER`; the token is in `TOKEN`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PER_PAGE = 100
TIMEOUT_SECONDS = 60
BOT = "github-actions[bot]"
"""Whose name a job's own token writes in."""


def marker(stack: str, *, drift: bool = False) -> str:
    """The first line of a comment, by which it is found again."""
    return f"<!-- istio-vms {'drift' if drift else 'preview'}: {stack} -->"


PREVIEW = re.compile(marker("(.+)"))


class PostError(Exception):
    """The host refused."""


@dataclass(frozen=True)
class Host:
    """GitHub's or GitLab's API, as the account that the token belongs to."""

    api: str
    headers: Mapping[str, str] = field(repr=False)

    def call(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        """One request: what was answered, None for nothing.

        Raises:
            PostError: it was refused, or nobody answered.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {**self.headers, "Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.api}/{path}", data, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise PostError(f"{method} {path}: {error.code} {error.read(300).decode(errors='replace')}") from None
        except OSError as error:
            raise PostError(f"{method} {path}: {error}") from None
        return json.loads(text) if text else None

    def all(self, path: str) -> Iterator[Any]:
        """Every entry of a list that comes in pages."""
        page = 1
        while True:
            found = self.call("GET", f"{path}{'&' if '?' in path else '?'}per_page={PER_PAGE}&page={page}")
            yield from found
            if len(found) < PER_PAGE:
                return
            page += 1


@dataclass(frozen=True)
class Place:
    """What differs between comments and issues, and between hosts.

    Attributes:
        listed: path of the list; a new one is posted there.
        query: which of the list are open.
        one: path of one, by its `{id}`.
        key: the field with its id.
        text: the field with its text.
        author: the field with its author, and the field of that which names them.
        me: what that field has for what we wrote.
        change: the method that edits.
        closing: the edit that closes one; None where it is deleted instead.
    """

    host: Host
    listed: str
    query: str
    one: str
    key: str
    text: str
    author: tuple[str, str]
    me: Any
    change: str
    closing: Mapping[str, str] | None

    def ours(self) -> dict[str, str]:
        """First lines of what we wrote to the ids."""
        name, known_by = self.author
        return {
            _marker(entry[self.text]): str(entry[self.key])
            for entry in self.host.all(self.listed + self.query)
            if entry[self.text] and entry[name] and entry[name][known_by] == self.me
        }

    def put(self, file: Path) -> None:
        """Edit the one with the file's marker, or make it."""
        text = file.read_text()
        fields = {self.text: text, **({"title": _title(text)} if self.closing else {})}
        if found := self.ours().get(_marker(text)):
            self.host.call(self.change, self.one.format(id=found), fields)
        else:
            self.host.call("POST", self.listed, fields)

    def end(self, marker: str) -> None:
        """Close or delete the one with the marker, if there is one."""
        found = self.ours().get(marker)
        if found and self.closing:
            self.host.call(self.change, self.one.format(id=found), self.closing)
        elif found:
            self.host.call("DELETE", self.one.format(id=found))


def comments(env: Mapping[str, str]) -> Place:
    """Those of the pull request, or merge request, that the job is about."""
    if "GITLAB_CI" in env:
        host, me, project = _gitlab(env)
        listed = f"{project}/merge_requests/{env['CI_MERGE_REQUEST_IID']}/notes"
        return Place(host, listed, "", f"{listed}/{{id}}", "id", "body", ("author", "id"), me, "PUT", None)
    host, repository = _github(env)
    listed, one = f"{repository}/issues/{env['NUMBER']}/comments", f"{repository}/issues/comments/{{id}}"
    return Place(host, listed, "", one, "id", "body", ("user", "login"), BOT, "PATCH", None)


def issues(env: Mapping[str, str]) -> Place:
    """The open issues of the repository."""
    if "GITLAB_CI" in env:
        host, me, project = _gitlab(env)
        listed, closing = f"{project}/issues", {"state_event": "close"}
        one, author = f"{listed}/{{id}}", ("author", "id")
        return Place(host, listed, "?state=opened", one, "iid", "description", author, me, "PUT", closing)
    host, repository = _github(env)
    listed, closing = f"{repository}/issues", {"state": "closed"}
    one, author = f"{listed}/{{id}}", ("user", "login")
    return Place(host, listed, "?state=open", one, "number", "body", author, BOT, "PATCH", closing)


def _github(env: Mapping[str, str]) -> tuple[Host, str]:
    headers = {"Authorization": f"Bearer {env['TOKEN']}", "Accept": "application/vnd.github+json"}
    return Host(env["GITHUB_API_URL"], headers), f"repos/{env['GITHUB_REPOSITORY']}"


def _gitlab(env: Mapping[str, str]) -> tuple[Host, int, str]:
    host = Host(env["CI_API_V4_URL"], {"PRIVATE-TOKEN": env["TOKEN"]})
    return host, host.call("GET", "user")["id"], f"projects/{env['CI_PROJECT_ID']}"


def _marker(text: str) -> str:
    return text.splitlines()[0]


def _title(text: str) -> str:
    """An issue's title: the comment's headline, as plain text."""
    return text.splitlines()[1].removeprefix("### ").replace("`", "")


def _files(folder: Path) -> list[Path]:
    """The comments in a folder; none where there is no folder."""
    return sorted(folder.glob("*.md"))


def post_comments(place: Place, folder: Path, touched: Sequence[str]) -> None:
    """Post the folder's comments, and delete those of stacks that the pull request touches no more."""
    for file in _files(folder):
        place.put(file)
    for marker in place.ours():
        if (stack := PREVIEW.fullmatch(marker)) and stack[1] not in touched:
            place.end(marker)


def post_issues(place: Place, drifted: Path, well: Path) -> None:
    """Open or edit an issue for each comment in one folder, close those of the other's."""
    for file in _files(drifted):
        place.put(file)
    for file in _files(well):
        place.end(_marker(file.read_text()))


def main(words: Sequence[str]) -> int:
    """0 when everything is where it belongs, else 1."""
    parser = argparse.ArgumentParser(prog="python3 -m review.post", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    made = kinds.add_parser("comments", help="of the pull request")
    made.add_argument("folder", type=Path, help="has a file for each stack, *.md")
    made.add_argument("--touched", type=json.loads, required=True, help="the stacks it touches, a JSON list")
    made = kinds.add_parser("issues", help="of the repository, one for each stack that has drifted")
    made.add_argument("--drifted", type=Path, required=True, metavar="FOLDER", help="has what to open or edit, *.md")
    made.add_argument("--well", type=Path, required=True, metavar="FOLDER", help="has what to close, *.md")
    arguments = parser.parse_args(words)
    try:
        if arguments.kind == "comments":
            post_comments(comments(os.environ), arguments.folder, arguments.touched)
        else:
            post_issues(issues(os.environ), arguments.drifted, arguments.well)
    except PostError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
