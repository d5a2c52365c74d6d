"""The `command` provider."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lab.plugins.failures import Failed
from lab.plugins.provider import Handler, Provider, serve


def _local() -> Handler:
    from lab.plugins.command.local import LocalCommand

    return LocalCommand()


def _remote() -> Handler:
    from lab.plugins.command.remote import RemoteCommand

    return RemoteCommand()


_HANDLERS: Mapping[str, Callable[[], Handler]] = {
    # Imported at need: the engine waits for the plugin's start, and most programs use only some of them.
    "command:local:Command": _local,
    "command:remote:Command": _remote,
}


class CommandProvider(Provider):
    """Serves the resource types of pulumi-command; it has no configuration."""

    version = "1.2.1+lab"

    def handler(self, type_token: str) -> Handler:
        """The handler of a resource type."""
        make = _HANDLERS.get(type_token)
        if make is None:
            raise Failed(f"{type_token} is not supported by the lab's stand-in; it has {', '.join(_HANDLERS)}")
        return make()


def main() -> None:
    """Serve the engine that started this process."""
    serve(CommandProvider())
