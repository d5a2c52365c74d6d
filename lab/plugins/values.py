"""Property values as the engine sends them: plain data, with secrets, unknowns and assets marked.

The signatures are the ones of Pulumi's provider protocol (sdk/go/common/resource: sig.go, and the unknown values of plugin/rpc.go).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from google.protobuf import struct_pb2

SIGNATURE: Final = "4dabf18193072939515e22adb298388d"
SECRET: Final = "1b47061264138c4ac30d75fd1eb44270"  # noqa: S105 - the mark of a secret, not one
ASSET: Final = "c44067f5952c0a294b673a41bacd8c17"
ARCHIVE: Final = "0def7320c3a5731c473e5ecbe6d01bc7"
OUTPUT: Final = "d0e6a833031e9bbcd3f4e8bde6ca49a4"
RESOURCE: Final = "5cf8f73096256a8f31e491e813e4eb8e"
UNKNOWN_STRING: Final = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_UNKNOWNS: Final = frozenset(
    {
        UNKNOWN_STRING,
        "1c4a061d-8072-4f0a-a4cb-0ff528b18fe7",
        "3eeb2bf0-c639-47a8-9e75-3b44932eb421",
        "6a19a0b0-7e62-4c92-b797-7f8e31da9cc2",
        "030794c1-ac77-496b-92df-f27374a8bd58",
        "e48ece36-62e2-4504-bad9-02848725956a",
        "dd056dcd-154b-4c76-9bd3-c8f88648b5ff",
    }
)

Properties = dict[str, Any]
"""A bag of properties: None, bool, int, float, str, list, dict, `Secret`, `Unknown`, `Asset`."""


@dataclass(frozen=True)
class Unknown:
    """A value that is known only once something else has been made; occurs in previews."""


UNKNOWN: Final = Unknown()


@dataclass(frozen=True)
class Secret:
    """A value that the engine encrypts in the state and masks in what it prints."""

    value: Any


@dataclass(frozen=True)
class Asset:
    """A file or a piece of text (`signature` ASSET), or a set of them (ARCHIVE): the protocol's own fields."""

    signature: str
    fields: Mapping[str, Any]


def decode(struct: struct_pb2.Struct) -> Properties:
    """The properties of a protocol message."""
    return {key: _decode(value) for key, value in struct.fields.items()}


def _decode(value: struct_pb2.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return UNKNOWN if value.string_value in _UNKNOWNS else value.string_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "list_value":
        return [_decode(item) for item in value.list_value.values]
    if kind == "struct_value":
        return _decode_object(decode(value.struct_value))
    return None


def _decode_object(fields: Properties) -> Any:
    signature = fields.get(SIGNATURE)
    if signature is None:
        return fields
    if signature == SECRET:
        return Secret(plain(fields["value"]))
    if signature in (ASSET, ARCHIVE):
        return Asset(signature, {key: value for key, value in fields.items() if key != SIGNATURE})
    if signature == OUTPUT:
        known = fields.get("value", UNKNOWN)
        return Secret(plain(known)) if fields.get("secret") else known
    if signature == RESOURCE:
        return fields.get("id") or fields["urn"]
    raise ValueError(f"the engine sent a value of an unknown kind ({signature})")


def encode(properties: Mapping[str, Any]) -> struct_pb2.Struct:
    """The protocol message for `properties`."""
    return struct_pb2.Struct(fields={key: _encode(value) for key, value in properties.items()})


def _encode(value: Any) -> struct_pb2.Value:
    if value is None:
        return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
    if isinstance(value, Unknown):
        return struct_pb2.Value(string_value=UNKNOWN_STRING)
    if isinstance(value, Secret):
        return struct_pb2.Value(struct_value=encode({SIGNATURE: SECRET, "value": plain(value.value)}))
    if isinstance(value, Asset):
        return struct_pb2.Value(struct_value=encode({SIGNATURE: value.signature, **value.fields}))
    if isinstance(value, bool):
        return struct_pb2.Value(bool_value=value)
    if isinstance(value, int | float):
        return struct_pb2.Value(number_value=value)
    if isinstance(value, str):
        return struct_pb2.Value(string_value=value)
    if isinstance(value, Mapping):
        return struct_pb2.Value(struct_value=encode(cast(Mapping[str, Any], value)))
    if isinstance(value, Sequence):
        items = [_encode(item) for item in cast(Sequence[Any], value)]
        return struct_pb2.Value(list_value=struct_pb2.ListValue(values=items))
    raise TypeError(f"a {type(value).__name__} cannot be a property")


def plain(value: Any) -> Any:
    """`value` without its secret marks; unknowns stay."""
    return mapped(value, lambda leaf: plain(leaf.value) if isinstance(leaf, Secret) else leaf)


def mapped(value: Any, leaf: Callable[[Any], Any]) -> Any:
    """`value` with every leaf (anything but a list or a table) passed through `leaf`."""
    if isinstance(value, dict):
        return {key: mapped(item, leaf) for key, item in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [mapped(item, leaf) for item in cast(list[Any], value)]
    return leaf(value)


def contains(value: Any, kind: type[Secret] | type[Unknown]) -> bool:
    """Whether a secret, or an unknown, is anywhere in `value`."""
    if isinstance(value, kind):
        return True
    if isinstance(value, Secret):
        return contains(value.value, kind)
    if isinstance(value, Mapping):
        return any(contains(item, kind) for item in cast(Mapping[str, Any], value).values())
    if isinstance(value, list):
        return any(contains(item, kind) for item in cast(list[Any], value))
    return False
