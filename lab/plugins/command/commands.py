"""Resources whose life is scripts: when which script runs, and what is kept of it."""

from __future__ import annotations

import json
import secrets
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from lab.plugins.command import fields
from lab.plugins.differences import Difference, Path, compare, under
from lab.plugins.failures import Failed
from lab.plugins.process import Finished, Stream
from lab.plugins.provider import Call, Failures, Handler
from lab.plugins.values import UNKNOWN, Properties, Secret, contains, plain

REPLACING: frozenset[Path] = frozenset({("triggers",)})
"""A change of these makes the resource anew; the plugin's documentation says otherwise, its code does this."""
_STREAMS: Mapping[str, tuple[Stream, ...]] = {
    "stdout": ("stdout",),
    "stderr": ("stderr",),
    "stdoutAndStderr": ("stdout", "stderr"),
    "none": (),
}
COMMON: Mapping[str, fields.Test] = {
    "create": fields.text,
    "update": fields.text,
    "delete": fields.text,
    "stdin": fields.text,
    "environment": fields.text_table,
    "triggers": fields.sequence,
    "logging": fields.one_of(*_STREAMS),
    "addPreviousOutputInEnv": fields.flag,
}


class Commands(Handler):
    """A resource whose life is scripts: `create`, `update` (else `create` again), `delete`."""

    tests: ClassVar[Mapping[str, fields.Test]]
    required: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def execute(self, call: Call, script: str, inputs: Properties, environment: Mapping[str, str]) -> Finished:
        """Run `script`; `inputs` carry no secret marks, `environment` is what the script gets of the previous outputs."""

    def check(self, call: Call, olds: Properties, news: Properties) -> tuple[Properties, Failures]:
        """No input has a default here."""
        return news, fields.problems(news, self.tests, self.required)

    def diff(self, call: Call, inputs: Properties, state: Properties, news: Properties) -> Difference:
        """Any change of an input is an update, of `triggers` a replacement."""
        changes = compare(inputs, news)
        return Difference(changes, frozenset(path for path in changes if under(path, REPLACING)))

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        """Run `create`; if it fails nothing is kept."""
        if call.preview:
            return "", {**inputs, "stdout": UNKNOWN, "stderr": UNKNOWN}
        outputs = self._run(call, inputs.get("create"), inputs, {})
        return call.name + secrets.token_hex(4), {**inputs, **outputs}

    def update(self, call: Call, inputs: Properties, state: Properties, news: Properties) -> Properties:
        """Run `update`, else `create`."""
        if call.preview:
            return {**news, "stdout": UNKNOWN, "stderr": UNKNOWN}
        script = news.get("update") if news.get("update") is not None else news.get("create")
        return {**news, **self._run(call, script, news, state)}

    def read(self, call: Call, inputs: Properties, state: Properties) -> tuple[Properties, Properties] | None:
        """There is nothing to look at: what is recorded stands."""
        return inputs, state

    def delete(self, call: Call, inputs: Properties, state: Properties) -> None:
        """Run the recorded `delete` with the recorded inputs."""
        self._run(call, state.get("delete"), state, state)

    def _run(self, call: Call, script: Any, inputs: Properties, previous: Properties) -> Properties:
        if script is None:
            return {"stdout": previous.get("stdout", ""), "stderr": previous.get("stderr", "")}
        known, text = plain(inputs), plain(script)
        finished = self.execute(call, text, known, _previous(known, plain(previous)))
        if finished.code != 0:
            shown = "(a secret command)" if contains(script, Secret) else json.dumps(text, ensure_ascii=False)
            raise Failed(f"{finished.ending}: running {shown}:\n{_visible(finished, known)}")
        return {"stdout": finished.stdout.removesuffix("\n"), "stderr": finished.stderr.removesuffix("\n")}


def logged(inputs: Properties) -> tuple[Stream, ...]:
    """The streams that the program lets into the engine's log."""
    return _STREAMS[inputs.get("logging") or "stdoutAndStderr"]


def _visible(finished: Finished, inputs: Properties) -> str:
    """The output that may be shown: what a program keeps out of the log by `logging` may be a secret."""
    return finished.both if "stdout" in logged(inputs) else finished.stderr


def _previous(inputs: Properties, previous: Properties) -> dict[str, str]:
    if inputs.get("addPreviousOutputInEnv") is False:
        return {}
    names = {"stdout": "PULUMI_COMMAND_STDOUT", "stderr": "PULUMI_COMMAND_STDERR"}
    return {variable: previous[output] for output, variable in names.items() if previous.get(output)}
