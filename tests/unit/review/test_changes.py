"""What a step changes, and what of it nobody gets to see."""

import json
from typing import Any

import pytest

from review.changes import changes
from review.differences import Difference
from review.values import ABSENT, UNKNOWN, UNKNOWN_STRING, Secret
from tests.unit.review.conftest import COMMAND, preview, step

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2ln"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n-----END OPENSSH PRIVATE KEY-----\n"
KUBECONFIG = "apiVersion: v1\nusers:\n- user:\n    client-key-data: aHVudGVyMg==\n"
CIPHER = "v1:Fz0uM4J6pXo8Z3aP:9u5fX3hC0dZ1c7H0bS0aTQ=="
SIGNED = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270", "ciphertext": "hunter2"}


def of(*words: Any, **more: Any) -> list[Difference]:
    return changes(preview(step(*words, **more)).steps[0])


def test_a_creation_has_every_value() -> None:
    new = {"spec": {"ports": [{"port": 80}], "a.b": {}, "type": None}}
    assert of("create", new=new) == [
        Difference("spec.ports[0].port", ABSENT, 80),
        Difference('spec["a.b"]', ABSENT, {}),
        Difference("spec.type", ABSENT, None),
    ]


def test_a_deletion_has_what_was_put_in() -> None:
    assert of("delete", old={"name": "app"}) == [Difference("name", "app", ABSENT)]


def test_a_component_has_nothing() -> None:
    assert of("create", "istio-vms:machines:Machine", new={}) == []


def test_an_update_has_what_the_engine_names() -> None:
    old, new = {"spec": {"port": 80, "kept": 1}, "other": 1}, {"spec": {"port": 90, "kept": 1}, "other": 2}
    assert of("update", old=old, new=new, diff={"spec.port": "update"}) == [Difference("spec.port", 80, 90)]


def test_added_and_removed_properties() -> None:
    old, new = {"labels": {"a": "1"}}, {"labels": {"b/c": "2"}}
    found = of("update", old=old, new=new, diff={"labels.a": "delete", 'labels["b/c"]': "add"})
    assert found == [Difference("labels.a", "1", ABSENT), Difference('labels["b/c"]', ABSENT, "2")]


def test_what_replaces_is_known_by_the_kind_of_its_difference() -> None:
    found = of("replace", old={"a": 1, "b": 1}, new={"a": 2, "b": 2}, diff={"a": "update-replace", "b": "update"})
    assert [(change.path, change.replaces) for change in found] == [("a", True), ("b", False)]


def test_without_details_the_inputs_are_compared() -> None:
    more = {"diffReasons": ["name", "nameserver"], "replaceReasons": ["name"]}
    found = of("replace", old={"name": "a", "nameserver": "x"}, new={"name": "b", "nameserver": "y"}, **more)
    assert found == [Difference("name", "a", "b", replaces=True), Difference("nameserver", "x", "y")]


def test_a_difference_from_the_outputs_is_shown_as_one() -> None:
    one = step("update", old={"replicas": 1}, new={"replicas": 1})
    one["oldState"]["outputs"] = {"replicas": 3}
    one["detailedDiff"] = {"replicas": {"kind": "update", "inputDiff": False}}
    assert changes(preview(one).steps[0]) == [Difference("replicas", 3, 1)]


def test_what_is_not_known_yet() -> None:
    assert of("create", COMMAND, new={"stdin": UNKNOWN_STRING, "triggers": [UNKNOWN_STRING]}) == [
        Difference("stdin", ABSENT, UNKNOWN),
        Difference("triggers[0]", ABSENT, UNKNOWN),
    ]


def test_below_what_is_not_known_yet_nothing_is_known() -> None:
    old, new = {"metadata": {"name": "a"}}, {"metadata": UNKNOWN_STRING}
    assert of("update", old=old, new=new, diff={"metadata.name": "update"}) == [
        Difference("metadata.name", "a", UNKNOWN)
    ]


def test_a_path_leads_into_no_text() -> None:
    diff = {"ports[0]": "add", "ports.a": "add", "labels[1]": "add"}
    found = of("update", old={"ports": "text", "labels": {}}, new={"ports": ["x"], "labels": {}}, diff=diff)
    assert [(change.path, change.old) for change in found] == [(path, ABSENT) for path in diff]


def test_of_a_document_on_stdin_the_keys_that_differ_are_told() -> None:
    old, new = {"cpus": 2, "network": {"name": "a"}, "user": "u"}, {"cpus": 4, "network": {"name": "b"}, "user": "u"}
    found = of(
        "update", COMMAND, old={"stdin": json.dumps(old)}, new={"stdin": json.dumps(new)}, diff={"stdin": "update"}
    )
    assert [change.path for change in found] == ["stdin.cpus", "stdin.network.name"]
    assert all(isinstance(value, Secret) for change in found for value in (change.old, change.new))


@pytest.mark.parametrize("other", ["[secret]", "hunter2", '"hunter2"', '["hunter2"]', UNKNOWN_STRING])
def test_of_stdin_that_cannot_be_read_on_both_sides_nothing_is_told(other: str) -> None:
    document = json.dumps({"token": "hunter2"})
    for old, new in ((document, other), (other, document)):
        (change,) = of("update", COMMAND, old={"stdin": old}, new={"stdin": new}, diff={"stdin": "update"})
        assert change.path == "stdin"
        assert {type(change.old), type(change.new)} <= {Secret, type(UNKNOWN)}


def test_a_secret_that_is_another_one_is_a_change() -> None:
    (change,) = of("update", COMMAND, old={"stdin": "[secret]"}, new={"stdin": "[secret]"}, diff={"stdin": "update"})
    assert change == Difference("stdin", Secret(None), Secret(None))


@pytest.mark.parametrize("value", ["[secret]", SIGNED, KEY, KUBECONFIG, CIPHER, TOKEN, f"Bearer {TOKEN}"])
def test_what_looks_secret_is(value: Any) -> None:
    assert of("create", new={"data": {"deep": [value]}}) == [Difference("data.deep[0]", ABSENT, Secret(None))]


@pytest.mark.parametrize("name", ["clientSecret", "dbpassword", "AGENT_TOKEN", "api-key", "credentials"])
def test_what_is_named_like_a_secret_is_one(name: str) -> None:
    assert of("create", new={"values": {name: ["hunter2"]}}) == [Difference(f"values.{name}[0]", ABSENT, Secret(None))]


@pytest.mark.parametrize("name", ["tokenSeconds", "secretName", "imagePullSecrets", "keyring", "passwordFile"])
def test_what_only_speaks_of_a_secret_is_shown(name: str) -> None:
    assert of("create", new={"values": {name: "shown"}}) == [Difference(f"values.{name}", ABSENT, "shown")]


@pytest.mark.parametrize("value", ["v1:2", "-----BEGIN CERTIFICATE-----", "eyJ", "client-key", "secret"])
def test_what_does_not_look_secret_is_not(value: str) -> None:
    assert of("create", new={"data": value}) == [Difference("data", ABSENT, value)]


@pytest.mark.parametrize(
    ("types", "name"),
    [
        (COMMAND, "stdin"),
        (COMMAND, "environment"),
        ("command:remote:Command", "stdin"),
        ("command:remote:Command", "environment"),
        ("command:remote:Command", "connection"),
        ("kubernetes:core/v1:Secret", "data"),
        ("kubernetes:core/v1:Secret", "stringData"),
        ("pulumi:providers:kubernetes", "kubeconfig"),
    ],
)
def test_what_may_carry_secrets_is_never_shown(types: str, name: str) -> None:
    for value in ("hunter2", {"key": "hunter2"}):
        created, deleted = of("create", types, new={name: value}), of("delete", types, old={name: value})
        assert [type(change.new) for change in created] == [type(change.old) for change in deleted] == [Secret]
        assert [change.path for change in (*created, *deleted)] == [name, name]
