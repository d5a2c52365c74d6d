from __future__ import annotations

import pytest
from google.protobuf import struct_pb2

from lab.plugins.values import (
    ARCHIVE,
    ASSET,
    OUTPUT,
    RESOURCE,
    SECRET,
    SIGNATURE,
    UNKNOWN,
    UNKNOWN_STRING,
    Asset,
    Secret,
    Unknown,
    contains,
    decode,
    encode,
    plain,
)


def struct(**fields: object) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(fields)
    return made


@pytest.mark.parametrize(
    "properties",
    [
        {"a": None, "b": True, "c": 1, "d": 1.5, "e": "text", "f": [1, [2]], "g": {"h": {}}},
        {"secret": Secret({"deep": [1]}), "unknown": UNKNOWN},
        {"asset": Asset(ASSET, {"text": "x", "hash": "h"}), "archive": Asset(ARCHIVE, {"path": "p"})},
    ],
)
def test_what_is_encoded_is_decoded(properties: dict[str, object]) -> None:
    assert decode(encode(properties)) == properties


def test_whole_numbers_are_integers() -> None:
    decoded = decode(struct(port=80.0, ratio=0.5))
    assert (repr(decoded["port"]), decoded["ratio"]) == ("80", 0.5)


def test_a_secret_in_a_secret_is_one_secret() -> None:
    inner = {SIGNATURE: SECRET, "value": "x"}
    assert decode(struct(a={SIGNATURE: SECRET, "value": {"key": inner}})) == {"a": Secret({"key": "x"})}
    assert encode({"a": Secret({"key": Secret("x")})}) == encode({"a": Secret({"key": "x"})})


def test_outputs_and_resources() -> None:
    known = {SIGNATURE: OUTPUT, "value": 1, "secret": True}
    assert decode(struct(a=known, b={SIGNATURE: OUTPUT}, c={SIGNATURE: RESOURCE, "urn": "u", "id": "i"})) == {
        "a": Secret(1),
        "b": UNKNOWN,
        "c": "i",
    }


def test_every_kind_of_unknown_is_unknown() -> None:
    assert decode(struct(a=UNKNOWN_STRING, b="6a19a0b0-7e62-4c92-b797-7f8e31da9cc2")) == {"a": UNKNOWN, "b": UNKNOWN}


def test_a_value_of_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        decode(struct(a={SIGNATURE: "?"}))


def test_plain_and_contains() -> None:
    value = {"a": [Secret({"b": UNKNOWN})], "c": 1}
    assert plain(value) == {"a": [{"b": UNKNOWN}], "c": 1}
    assert contains(value, Secret)
    assert contains(value, Unknown)
    assert not contains({"a": [1]}, Secret)
