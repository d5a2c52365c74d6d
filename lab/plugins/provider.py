# ruff: noqa: D102 - the protocol's own methods are documented in its provider.proto
"""A provider plugin: the engine's protocol on one side, one `Handler` per resource type on the other."""

from __future__ import annotations

import argparse
import functools
import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, ClassVar, TypeVar

import grpc
from google.protobuf import any_pb2, empty_pb2
from pulumi.runtime.proto import (
    ResourceProviderServicer,
    engine_pb2,
    engine_pb2_grpc,
    plugin_pb2,
    provider_pb2,
    provider_pb2_grpc,
    status_pb2,
)

from lab.plugins.cancellation import Cancellation
from lab.plugins.differences import Difference, Kind, Path, parsed, written
from lab.plugins.failures import Failed
from lab.plugins.values import Properties, decode, encode

PARALLEL = 256
"""Calls served at once: the engine's own default is no limit, and a waiting call costs only a thread."""
MESSAGE_BYTES = 400 * 1024 * 1024
"""The engine's own limit on one message."""


class InitFailed(Failed):
    """The thing exists but did not become ready: it goes into the state, and the next run tries to finish it."""

    def __init__(self, message: str, resource_id: str, state: Properties, reasons: Sequence[str] = ()) -> None:
        """`reasons` are further lines for people; `state` is what is known of the thing."""
        super().__init__(message)
        self.resource_id, self.state, self.reasons = resource_id, state, [message, *reasons]


@dataclass(frozen=True)
class Call:
    """One call of the engine, and what a handler may need to know about it."""

    urn: str
    type: str
    name: str
    resource_id: str = ""
    preview: bool = False
    timeout: float = 0
    """Seconds, from the program's `custom_timeouts`; 0 when not given."""
    ignore_changes: Sequence[Path] = ()
    proposed_name: str = ""
    """The name the engine's own autonaming settings ask for; empty when there are none."""
    cancellation: Cancellation = field(default_factory=Cancellation)
    log: Log = field(default_factory=lambda: Log(None, ""))


class Log:
    """The engine's log, for one resource."""

    def __init__(self, engine: Any, urn: str) -> None:
        """`engine` is the engine's stub, None to be silent."""
        self._engine, self._urn = engine, urn

    def status(self, text: str) -> None:
        """Show `text` beside the resource while it is being worked on."""
        self._send(engine_pb2.INFO, text, ephemeral=True)

    def info(self, text: str) -> None:
        """Show `text` in the run's diagnostics."""
        self._send(engine_pb2.INFO, text)

    def warning(self, text: str) -> None:
        """Show `text` as a warning in the run's diagnostics."""
        self._send(engine_pb2.WARNING, text)

    def error(self, text: str) -> None:
        """Show `text` as an error in the run's diagnostics."""
        self._send(engine_pb2.ERROR, text)

    def _send(self, severity: Any, text: str, *, ephemeral: bool = False) -> None:
        if self._engine is None:
            return
        request = engine_pb2.LogRequest(severity=severity, message=text, urn=self._urn, ephemeral=ephemeral)
        try:
            self._engine.Log(request)
        except grpc.RpcError:
            # The engine is gone: what it would have shown no longer matters, the parent watch ends this process.
            return


Failures = Mapping[str, str]
"""Input property → what is wrong with it."""


class Handler(ABC):
    """The life of one resource type."""

    @abstractmethod
    def check(self, call: Call, olds: Properties, news: Properties) -> tuple[Properties, Failures]:
        """The inputs with their defaults, and what is wrong with them. `olds` is empty for a new resource."""

    @abstractmethod
    def diff(self, call: Call, inputs: Properties, state: Properties, news: Properties) -> Difference:
        """What an update to `news` would change. `inputs` and `state` are the recorded ones."""

    @abstractmethod
    def create(self, call: Call, inputs: Properties) -> tuple[str, Properties]:
        """Make it: id and state. A preview makes nothing and gives an empty id."""

    @abstractmethod
    def update(self, call: Call, inputs: Properties, state: Properties, news: Properties) -> Properties:
        """Change it in place: the new state."""

    @abstractmethod
    def read(self, call: Call, inputs: Properties, state: Properties) -> tuple[Properties, Properties] | None:
        """Its present state and the inputs that fit it; None when it is gone."""

    @abstractmethod
    def delete(self, call: Call, inputs: Properties, state: Properties) -> None:
        """Remove it; already gone is no error."""


_Rpc = TypeVar("_Rpc", bound=Callable[..., Any])


def _explained(method: _Rpc) -> _Rpc:
    """Turn an exception into the protocol's error."""

    @functools.wraps(method)
    def call(self: Any, request: Any, context: Any) -> Any:
        try:
            return method(self, request, context)
        except InitFailed as error:
            context.abort_with_status(_init_failed(error))
        except Failed as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        except Exception as error:
            context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error} (a defect of the stand-in)")

    return call  # type: ignore[return-value]


class _Status(grpc.Status):  # type: ignore[misc]
    def __init__(self, code: Any, details: str, trailing_metadata: tuple[tuple[str, bytes], ...]) -> None:
        self.code, self.details, self.trailing_metadata = code, details, trailing_metadata


def _init_failed(error: InitFailed) -> _Status:
    detail = any_pb2.Any()
    detail.Pack(
        provider_pb2.ErrorResourceInitFailed(
            id=error.resource_id, properties=encode(error.state), reasons=error.reasons
        )
    )
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error), details=[detail])
    return _Status(grpc.StatusCode.UNKNOWN, str(error), (("grpc-status-details-bin", status.SerializeToString()),))


class Provider(ResourceProviderServicer):
    """What every provider does alike; a subclass names its handlers and reads its configuration."""

    version: ClassVar[str]
    """Of the official plugin whose behaviour this one follows."""

    def __init__(self) -> None:
        """Nothing is reached until the engine asks."""
        self._engine: Any = None
        self.cancellation = Cancellation()

    def handler(self, type_token: str) -> Handler:
        """The handler of a resource type; raises `Failed` for a type that is not supported."""
        raise NotImplementedError

    def configure(self, config: Properties) -> None:
        """Take the provider's own inputs."""

    def check_config(self, news: Properties) -> Failures:
        """What is wrong with the provider's own inputs."""
        return {}

    def diff_config(self, olds: Properties, news: Properties) -> Difference:
        """What a change of the provider's own inputs means for the resources it serves."""
        return Difference({})

    def cancel(self) -> None:
        """End what is under way: called when the operator stops the run, and when the engine has died."""
        self.cancellation.cancel()

    def attach(self, engine_address: str) -> None:
        """Connect to the engine's log."""
        channel = grpc.insecure_channel(engine_address, options=[("grpc.max_send_message_length", MESSAGE_BYTES)])
        self._engine = engine_pb2_grpc.EngineStub(channel)

    def _call(self, request: Any, **more: Any) -> Call:
        # URN: urn:pulumi:stack::project::parents$type::name
        *_, types, name = request.urn.split("::", 3)
        return Call(
            urn=request.urn,
            type=types.rsplit("$", 1)[-1],
            name=name,
            cancellation=self.cancellation,
            log=Log(self._engine, request.urn),
            **more,
        )

    @_explained
    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True, supports_autonaming_configuration=True)

    @_explained
    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=self.version)

    @_explained
    def GetSchema(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetSchemaResponse(schema="{}")

    @_explained
    def Attach(self, request: Any, context: Any) -> Any:
        self.attach(request.address)
        return empty_pb2.Empty()

    @_explained
    def Configure(self, request: Any, context: Any) -> Any:
        self.configure(decode(request.args))
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True, supportsPreview=True, supports_autonaming_configuration=True
        )

    @_explained
    def CheckConfig(self, request: Any, context: Any) -> Any:
        failures = self.check_config(decode(request.news))
        return provider_pb2.CheckResponse(inputs=request.news, failures=_failures(failures))

    @_explained
    def DiffConfig(self, request: Any, context: Any) -> Any:
        return _diff_response(self.diff_config(decode(request.olds), decode(request.news)))

    @_explained
    def Check(self, request: Any, context: Any) -> Any:
        call = self._call(request, proposed_name=request.autonaming.proposed_name)
        inputs, failures = self.handler(call.type).check(call, decode(request.olds), decode(request.news))
        return provider_pb2.CheckResponse(inputs=encode(inputs), failures=_failures(failures))

    @_explained
    def Diff(self, request: Any, context: Any) -> Any:
        ignore = [parsed(path) for path in request.ignoreChanges]
        call = self._call(request, resource_id=request.id, ignore_changes=ignore)
        inputs, state, news = decode(request.old_inputs), decode(request.olds), decode(request.news)
        return _diff_response(self.handler(call.type).diff(call, inputs, state, news))

    @_explained
    def Create(self, request: Any, context: Any) -> Any:
        call = self._call(request, preview=request.preview, timeout=request.timeout)
        resource_id, state = self.handler(call.type).create(call, decode(request.properties))
        return provider_pb2.CreateResponse(id=resource_id, properties=encode(state))

    @_explained
    def Update(self, request: Any, context: Any) -> Any:
        ignore = [parsed(path) for path in request.ignoreChanges]
        call = self._call(
            request, resource_id=request.id, preview=request.preview, timeout=request.timeout, ignore_changes=ignore
        )
        inputs, state, news = decode(request.old_inputs), decode(request.olds), decode(request.news)
        return provider_pb2.UpdateResponse(properties=encode(self.handler(call.type).update(call, inputs, state, news)))

    @_explained
    def Read(self, request: Any, context: Any) -> Any:
        call = self._call(request, resource_id=request.id)
        found = self.handler(call.type).read(call, decode(request.inputs), decode(request.properties))
        if found is None:
            return provider_pb2.ReadResponse()
        inputs, state = found
        return provider_pb2.ReadResponse(id=request.id, properties=encode(state), inputs=encode(inputs))

    @_explained
    def Delete(self, request: Any, context: Any) -> Any:
        call = self._call(request, resource_id=request.id, timeout=request.timeout)
        self.handler(call.type).delete(call, decode(request.old_inputs), decode(request.properties))
        return empty_pb2.Empty()

    @_explained
    def Cancel(self, request: Any, context: Any) -> Any:
        self.cancel()
        return empty_pb2.Empty()

    @_explained
    def Invoke(self, request: Any, context: Any) -> Any:
        raise Failed(f"the function {request.tok} is not supported by the lab's stand-in: see lab/plugins/README.md")

    @_explained
    def Call(self, request: Any, context: Any) -> Any:
        raise Failed(f"the method {request.tok} is not supported by the lab's stand-in: see lab/plugins/README.md")

    @_explained
    def Construct(self, request: Any, context: Any) -> Any:
        raise Failed(f"{request.type} is not supported by the lab's stand-in: see lab/plugins/README.md")


def _failures(failures: Failures) -> list[Any]:
    return [provider_pb2.CheckFailure(property=key, reason=reason) for key, reason in failures.items()]


_KINDS: Mapping[tuple[Kind, bool], Any] = {
    ("add", False): provider_pb2.PropertyDiff.ADD,
    ("add", True): provider_pb2.PropertyDiff.ADD_REPLACE,
    ("delete", False): provider_pb2.PropertyDiff.DELETE,
    ("delete", True): provider_pb2.PropertyDiff.DELETE_REPLACE,
    ("update", False): provider_pb2.PropertyDiff.UPDATE,
    ("update", True): provider_pb2.PropertyDiff.UPDATE_REPLACE,
}


def _diff_response(difference: Difference) -> Any:
    changed = bool(difference.changes)
    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
        diffs=sorted({str(path[0]) for path in difference.changes if path}),
        replaces=sorted(written(path) for path in difference.replaces),
        deleteBeforeReplace=difference.delete_before_replace,
        detailedDiff={
            written(path): provider_pb2.PropertyDiff(kind=_KINDS[kind, path in difference.replaces], inputDiff=True)
            for path, kind in difference.changes.items()
        },
        hasDetailedDiff=True,
    )


def serve(provider: Provider) -> None:
    """Serve until the engine ends: the port goes to stdout, the engine's address is the first argument."""
    parser = argparse.ArgumentParser()
    parser.add_argument("engine", nargs="?", default="")
    arguments, _ = parser.parse_known_args()
    options = [("grpc.max_receive_message_length", MESSAGE_BYTES), ("grpc.max_send_message_length", MESSAGE_BYTES)]
    server: Any = grpc.server(ThreadPoolExecutor(PARALLEL), options=options)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server)
    port = server.add_insecure_port("127.0.0.1:0")
    if arguments.engine:
        provider.attach(arguments.engine)
    server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    _wait_for_the_engine_to_end()
    provider.cancel()
    server.stop(grace=10).wait()


def _wait_for_the_engine_to_end() -> None:
    """Until a signal asks to stop, or the parent is another than at the start: the engine died without asking.

    Not PR_SET_PDEATHSIG: it follows the parent's thread, and the engine's threads come and go.
    """
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()

    # The engine, when done, asks a plugin's process group to end by an interrupt first.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, ask)
    parent = os.getppid()
    while os.getppid() == parent and not asked.wait(1):
        continue
