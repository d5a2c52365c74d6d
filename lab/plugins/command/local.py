"""`command:local:Command`: scripts run on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from lab.plugins import process
from lab.plugins.command import fields
from lab.plugins.command.commands import COMMON, Commands, logged
from lab.plugins.failures import Failed
from lab.plugins.process import Finished, Stream
from lab.plugins.provider import Call, Failures
from lab.plugins.values import Properties

_UNSUPPORTED = ("assetPaths", "archivePaths")


class LocalCommand(Commands):
    """Runs in the engine's working directory and environment, unless the inputs say otherwise."""

    tests: ClassVar[Mapping[str, fields.Test]] = {
        **COMMON,
        "interpreter": fields.texts,
        "dir": fields.text,
        "assetPaths": fields.texts,
        "archivePaths": fields.texts,
    }

    def check(self, call: Call, olds: Properties, news: Properties) -> tuple[Properties, Failures]:
        """Files as outputs are not supported."""
        inputs, failures = super().check(call, olds, news)
        unsupported = {name: "is not supported by the lab's stand-in" for name in _UNSUPPORTED if news.get(name)}
        return inputs, {**failures, **unsupported}

    def execute(self, call: Call, script: str, inputs: Properties, environment: Mapping[str, str]) -> Finished:
        """Run by `/bin/sh -c`, or by `interpreter`."""
        shown = logged(inputs)

        def on_line(stream: Stream, line: str) -> None:
            if stream in shown:
                call.log.status(line)

        command = [*(inputs.get("interpreter") or ["/bin/sh", "-c"]), script]
        try:
            return process.run(
                call.cancellation,
                command,
                stdin=(inputs.get("stdin") or "").encode(),
                cwd=inputs.get("dir"),
                env={**os.environ, **(inputs.get("environment") or {}), **environment},
                on_line=on_line,
            )
        except OSError as error:
            raise Failed(f"{command[0]} could not be started in {inputs.get('dir') or Path.cwd()}: {error}") from error
