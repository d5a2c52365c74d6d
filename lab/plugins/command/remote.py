"""`command:remote:Command`: scripts run over SSH. Also how a resource takes a connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from lab.plugins.command import fields, ssh
from lab.plugins.command.commands import COMMON, Commands, logged
from lab.plugins.process import Finished, Stream
from lab.plugins.provider import Call, Failures
from lab.plugins.values import Properties, Secret, Unknown, plain


def with_connection(news: Properties) -> tuple[Properties, Failures]:
    """The inputs with the connection's defaults, the whole of it secret; and what is wrong with it."""
    given = news.get("connection")
    connection: Any = plain(given)
    if connection is None or isinstance(connection, Unknown):
        return news, {}
    if not isinstance(connection, dict):
        return news, {"connection": "expected a table"}
    known: Properties = {**ssh.DEFAULTS, **connection}
    failures = fields.problems(known, ssh.TESTS, ("host",), at="connection.")
    for name in ssh.UNSUPPORTED:
        if known.get(name) is not None:
            failures[f"connection.{name}"] = "is not supported by the lab's stand-in"
    host_key = known.get("hostKey")
    if isinstance(host_key, str) and (problem := ssh.host_key_problem(host_key)):
        failures["connection.hostKey"] = problem
    return {**news, "connection": Secret(known)}, failures


class RemoteCommand(Commands):
    """Runs as the connection's user, by its login shell."""

    tests: ClassVar[Mapping[str, fields.Test]] = {**COMMON, "connection": fields.anything}
    required = ("connection",)

    def check(self, call: Call, olds: Properties, news: Properties) -> tuple[Properties, Failures]:
        """The connection has defaults, and is always secret."""
        inputs, failures = with_connection(news)
        return inputs, {**super().check(call, olds, inputs)[1], **failures}

    def execute(self, call: Call, script: str, inputs: Properties, environment: Mapping[str, str]) -> Finished:
        """Run over a connection of its own."""
        shown = logged(inputs)

        def on_line(stream: Stream, line: str) -> None:
            if stream in shown:
                call.log.status(line)

        return ssh.execute(
            call,
            inputs["connection"],
            script,
            (inputs.get("stdin") or "").encode(),
            inputs.get("environment") or {},
            environment,
            on_line,
        )
