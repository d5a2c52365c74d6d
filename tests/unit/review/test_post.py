"""Comments and issues on GitHub and GitLab, both stood in for by one small server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from review.comment import marker, render
from review.post import BOT, PER_PAGE, PREVIEW
from tests.unit.review.conftest import captured

ROOT = Path(__file__).parents[3]
TOKEN = "hunter2"
US, THEM = {"login": BOT, "id": 7}, {"login": "mallory", "id": 8}


@dataclass
class Site:
    """A host's comments or issues: what the API serves, and the requests that changed something."""

    name: str
    kind: str
    entries: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    changed: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    url: str = ""
    refuses: bool = False

    @property
    def listed(self) -> str:
        return {
            "github comments": "/repos/o/r/issues/5/comments",
            "github issues": "/repos/o/r/issues",
            "gitlab comments": "/projects/9/merge_requests/5/notes",
            "gitlab issues": "/projects/9/issues",
        }[f"{self.name} {self.kind}"]

    @property
    def one(self) -> str:
        return "/repos/o/r/issues/comments" if (self.name, self.kind) == ("github", "comments") else self.listed

    @property
    def key(self) -> str:
        return "id" if self.kind == "comments" else {"github": "number", "gitlab": "iid"}[self.name]

    @property
    def text(self) -> str:
        return "description" if (self.name, self.kind) == ("gitlab", "issues") else "body"

    @property
    def change(self) -> str:
        return {"github": "PATCH", "gitlab": "PUT"}[self.name]

    def add(self, text: str | None, author: Mapping[str, Any] | None = US) -> dict[str, Any]:
        entry = {self.key: 100 + len(self.entries), self.text: text, "user": author, "author": author, "open": True}
        self.entries.append(entry)
        return entry

    def texts(self) -> list[str]:
        return [entry[self.text] for entry in self.entries if entry["open"]]

    def answer(self, method: str, target: str, headers: Mapping[str, str], body: Any) -> tuple[int, Any]:
        token = headers.get("Authorization") if self.name == "github" else headers.get("PRIVATE-TOKEN")
        if token != (f"Bearer {TOKEN}" if self.name == "github" else TOKEN) or self.refuses:
            return 403, {"message": "Resource not accessible by integration"}
        path, query = urlsplit(target).path, parse_qs(urlsplit(target).query)
        if (method, path) == ("GET", "/user") and self.name == "gitlab":
            return 200, US
        if (method, path) == ("GET", self.listed):
            state = {"github": ["open"], "gitlab": ["opened"]}[self.name]
            assert query.get("state") == (state if self.kind == "issues" else None)
            first, size = (int(query["page"][0]) - 1) * int(query["per_page"][0]), int(query["per_page"][0])
            return 200, [entry for entry in self.entries if entry["open"]][first : first + size]
        self.changed.append((method, path))
        if (method, path) == ("POST", self.listed):
            return 201, self.add(body[self.text]) | body
        (entry,) = [entry for entry in self.entries if path == f"{self.one}/{entry[self.key]}"]
        if method == "DELETE" and self.kind == "comments":
            self.entries.remove(entry)
            return 204, None
        assert method == self.change
        closing = {"state": "closed"} if self.name == "github" else {"state_event": "close"}
        entry |= {"open": False} if self.kind == "issues" and body == closing else body
        return 200, entry


@pytest.fixture(params=["github", "gitlab"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


def serve(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            status, answer = site.answer(self.command, self.path, self.headers, body)
            text = b"" if answer is None else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = respond

        def log_message(self, format: str, *args: Any) -> None:
            """Be quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pull_request(name: str) -> Iterator[Site]:
    yield from serve(Site(name, "comments"))


@pytest.fixture
def repository(name: str) -> Iterator[Site]:
    yield from serve(Site(name, "issues"))


def post(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    """As the workflows run it: by any Python, without packages."""
    env = {
        "github": {"GITHUB_API_URL": site.url, "GITHUB_REPOSITORY": "o/r", "NUMBER": "5"},
        "gitlab": {"GITLAB_CI": "true", "CI_API_V4_URL": site.url, "CI_PROJECT_ID": "9", "CI_MERGE_REQUEST_IID": "5"},
    }[site.name]
    command = [sys.executable, "-I", "-S", "-c", "import runpy, sys; sys.path[0:0] = ['.']; sys.argv[0] = 'post'; "]
    command[-1] += "runpy.run_module('review.post', run_name='__main__')"
    return subprocess.run(
        [*command, site.kind, *words],
        cwd=ROOT,
        env={**env, "TOKEN": TOKEN},
        capture_output=True,
        text=True,
        check=False,
    )


def posted(site: Site, *words: str) -> None:
    ran = post(site, *words)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def put(folder: Path, stack: str, seen: str = "resize", *, drift: bool = False) -> str:
    folder.mkdir(exist_ok=True)
    text = render(stack, captured(seen), drift=drift)
    (folder / f"{stack}.md").write_text(text)
    return text


def test_the_marker_is_the_comments() -> None:
    match = PREVIEW.fullmatch(marker("lab-2"))
    assert match and match[1] == "lab-2"
    assert not PREVIEW.fullmatch(marker("lab-2", drift=True))


def test_one_comment_a_stack_is_edited_in_place(pull_request: Site, tmp_path: Path) -> None:
    dev, lab = put(tmp_path, "dev"), put(tmp_path, "lab")
    touched = ("--touched", '["dev", "lab"]')
    posted(pull_request, str(tmp_path), *touched)
    assert pull_request.texts() == [dev, lab]
    new = put(tmp_path, "dev", "bump-istio")
    posted(pull_request, str(tmp_path), *touched)
    assert pull_request.texts() == [new, lab]
    first = f"{pull_request.one}/100"
    assert (pull_request.change, first) in pull_request.changed


def test_a_comment_is_found_on_any_page(pull_request: Site, tmp_path: Path) -> None:
    for i in range(PER_PAGE):
        pull_request.add(f"talk {i}", THEM)
    pull_request.add(put(tmp_path, "dev", "resize"))
    new = put(tmp_path, "dev", "bump-istio")
    posted(pull_request, str(tmp_path), "--touched", '["dev"]')
    assert pull_request.changed == [(pull_request.change, f"{pull_request.one}/{100 + PER_PAGE}")]
    assert pull_request.texts()[-1] == new


def test_what_others_wrote_is_left_alone(pull_request: Site, tmp_path: Path) -> None:
    text = put(tmp_path, "dev")
    for author, said in (
        (THEM, text),
        (THEM, marker("old")),
        (None, text),
        (US, None),
        (US, "hello"),
        (US, f"x\n{text}"),
    ):
        pull_request.add(said, author)
    before = list(pull_request.texts())
    posted(pull_request, str(tmp_path), "--touched", "[]")
    assert pull_request.texts() == before, "posted, and deleted again as the stack is not touched"
    posted(pull_request, str(tmp_path), "--touched", '["dev"]')
    assert pull_request.texts() == [*before, text]


def test_comments_of_stacks_that_are_touched_no_more_go(pull_request: Site, tmp_path: Path) -> None:
    kept, drift = f"{marker('dev')}\nfrom before", f"{marker('lab', drift=True)}\nkept too"
    for text in (kept, f"{marker('lab')}\ngoes", drift):
        pull_request.add(text)
    posted(pull_request, str(tmp_path / "none"), "--touched", '["dev"]')
    assert pull_request.texts() == [kept, drift]


def test_an_issue_is_opened_edited_and_closed(repository: Site, tmp_path: Path) -> None:
    drifted, well = tmp_path / "drifted", tmp_path / "well"
    where = ("--drifted", str(drifted), "--well", str(well))
    text = put(drifted, "dev", "drift", drift=True)
    posted(repository, *where)
    posted(repository, *where)
    assert repository.texts() == [text]
    title = re.escape("Stack dev has drifted; to put it right: 1 to update, 2 to create")
    assert re.match(title, repository.entries[0]["title"])
    put(well, "dev", "no-change", drift=True)
    (drifted / "dev.md").unlink()
    posted(repository, *where)
    posted(repository, *where)
    assert repository.texts() == []
    assert [method for method, _ in repository.changed] == ["POST", repository.change, repository.change]


def test_a_refusal_is_one_line_without_the_token(pull_request: Site, tmp_path: Path) -> None:
    put(tmp_path, "dev")
    pull_request.refuses = True
    ran = post(pull_request, str(tmp_path), "--touched", '["dev"]')
    assert ran.returncode == 1
    assert re.fullmatch(r"error: GET .*: 403 .*Resource not accessible.*\n", ran.stderr)
    assert TOKEN not in ran.stdout + ran.stderr


def test_a_host_that_is_not_there_is_one_line(pull_request: Site, tmp_path: Path) -> None:
    pull_request.url = "http://127.0.0.1:1"
    ran = post(pull_request, str(tmp_path), "--touched", "[]")
    assert ran.returncode == 1
    assert re.fullmatch(r"error: GET .*refused.*\n", ran.stderr)
