"""`command:remote:CopyToRemote`: one file, given as text or as a local path, copied by SFTP."""

from __future__ import annotations

import io
import posixpath
import secrets
import stat
from pathlib import Path
from typing import BinaryIO

import paramiko

from lab.plugins.command import fields, ssh
from lab.plugins.command.commands import REPLACING
from lab.plugins.command.remote import with_connection
from lab.plugins.differences import Difference, compare, under
from lab.plugins.failures import Failed
from lab.plugins.provider import Call, Failures, Handler
from lab.plugins.values import ASSET, Asset, Properties, plain

_TESTS = {
    "connection": fields.anything,
    "source": fields.asset,
    "remotePath": fields.text,
    "triggers": fields.sequence,
}


class CopyToRemote(Handler):
    """The copy is never deleted from the machine, as with the official plugin."""

    def check(self, call: Call, olds: Properties, news: Properties) -> tuple[Properties, Failures]:
        """The connection has defaults; only text and file assets are supported."""
        inputs, failures = with_connection(news)
        problems = {**fields.problems(inputs, _TESTS, ("connection", "source", "remotePath")), **failures}
        source = plain(inputs.get("source"))
        if isinstance(source, Asset) and _unsupported(source):
            problems["source"] = "only StringAsset and FileAsset of a single file are supported by the lab's stand-in"
        return inputs, problems

    def diff(self, call: Call, inputs: Properties, state: Properties, news: Properties) -> Difference:
        """Any change is an update, of `triggers` a replacement."""
        changes = compare(inputs, news)
        return Difference(changes, frozenset(path for path in changes if under(path, REPLACING)))

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        """Copy."""
        if call.preview:
            return "", inputs
        _copy(call, plain(inputs))
        return secrets.token_hex(4), inputs

    def update(self, call: Call, inputs: Properties, state: Properties, news: Properties) -> Properties:
        """Copy again when the content or the path is another."""
        if not call.preview:
            old, new = plain(inputs), plain(news)
            if old["source"].fields.get("hash") != new["source"].fields.get("hash") or (
                old["remotePath"] != new["remotePath"]
            ):
                _copy(call, new)
        return news

    def read(self, call: Call, inputs: Properties, state: Properties) -> tuple[Properties, Properties] | None:
        """There is nothing to look at: what is recorded stands."""
        return inputs, state

    def delete(self, call: Call, inputs: Properties, state: Properties) -> None:
        """The copy stays."""


def _unsupported(source: Asset) -> bool:
    return source.signature != ASSET or not ({"text", "path"} & source.fields.keys())


def _copy(call: Call, inputs: Properties) -> None:
    source, path = inputs["source"], inputs["remotePath"]
    local = source.fields.get("path")
    with _content(source) as content, ssh.connected(call, inputs["connection"]) as transport:
        sftp = paramiko.SFTPClient.from_transport(transport)
        if sftp is None:
            raise Failed(f"{inputs['connection']['host']} offers no SFTP")
        with sftp:
            try:
                sftp.putfo(content, _destination(sftp, path, Path(local).name if local else ""))
            except OSError as error:
                raise Failed(f"failed to copy to remote path {path}: {error}") from error


def _content(source: Asset) -> BinaryIO:
    if "text" in source.fields:
        return io.BytesIO(source.fields["text"].encode())
    path = Path(source.fields["path"])
    try:
        return path.open("rb")
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error}") from error


def _destination(sftp: paramiko.SFTPClient, path: str, name: str) -> str:
    """`path`, or the file `name` in it when it is a folder; its parents are made."""
    mode = _mode(sftp, path)
    if mode is None:
        _make_folder(sftp, posixpath.dirname(path))
        return path
    if not stat.S_ISDIR(mode):
        return path
    if not name:
        raise Failed(f"remote path {path} is a directory; when using a text asset, remotePath must be a file path")
    return posixpath.join(path, name)


def _make_folder(sftp: paramiko.SFTPClient, path: str) -> None:
    if path and _mode(sftp, path) is None:
        _make_folder(sftp, posixpath.dirname(path))
        sftp.mkdir(path)


def _mode(sftp: paramiko.SFTPClient, path: str) -> int | None:
    try:
        return sftp.stat(path).st_mode
    except FileNotFoundError:
        return None
