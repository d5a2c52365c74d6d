"""`command:remote:Command`, as far as states of earlier versions have it: it can be told apart, and goes without a trace."""

from __future__ import annotations

from lab.plugins.differences import Difference, compare
from lab.plugins.failures import Failed
from lab.plugins.provider import Call, Failures, Handler
from lab.plugins.values import Properties


class RemoteCommand(Handler):
    """None is made any more: what is done on machines are actions, see `actions/`."""

    def check(self, call: Call, olds: Properties, news: Properties) -> tuple[Properties, Failures]:
        """As it is."""
        return news, {}

    def diff(self, call: Call, inputs: Properties, state: Properties, news: Properties) -> Difference:
        """Told apart as ever."""
        return Difference(compare(inputs, news), frozenset())

    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        """Only previewed, for policies that are about such resources."""
        if call.preview:
            return "", inputs
        raise Failed("command.remote is not supported by the lab's stand-in")

    def update(self, call: Call, inputs: Properties, state: Properties, news: Properties) -> Properties:
        """Refused."""
        raise Failed("command.remote is not supported by the lab's stand-in")

    def read(self, call: Call, inputs: Properties, state: Properties) -> tuple[Properties, Properties] | None:
        """What is recorded stands."""
        return inputs, state

    def delete(self, call: Call, inputs: Properties, state: Properties) -> None:
        """None had a script for it."""
