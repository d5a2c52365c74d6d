"""Policy plaintext-secrets: found by form, by name and by place; what is no secret is left alone; nothing is repeated."""

import pytest

from review.model import Resource
from review.values import MASKED, UNKNOWN_STRING
from tests.unit.review.rules.conftest import command, kubernetes, release, resource, said

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAE\n-----END OPENSSH PRIVATE KEY-----"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJlLW9mLWl0"
KUBECONFIG = "users:\n- user:\n    client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURQ==\n"


def secrets(about: Resource) -> list[str]:
    return said("plaintext-secrets", about)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (KEY, "a private key"),
        (KUBECONFIG, "the client key of a kubeconfig"),
        (f"K10{'a' * 64}::server:hunter2hunter2", "a k3s token"),
        (f"curl -H 'Authorization: Bearer {JWT}' https://api", "a JSON Web Token"),
        (f"git clone with ghp_{'a' * 36}", "a GitHub token"),
        (f"glpat-{'a' * 20}", "a GitLab token"),
        ("AKIAIOSFODNN7EXAMPLE", "an AWS access key"),
        ("https://robot:hunter2@registry.example/v2", "a password in a URL"),
    ],
)
def test_a_secret_is_known_by_its_form_wherever_it_is(text: str, what: str) -> None:
    for about in (
        command(create=f"echo '{text}'"),
        command(create="true", stdin=text),
        command(create="true", environment={"X": text}),
        command(create="true", triggers=[[text]]),
        release(values={"a": {"b": [text]}}),
        kubernetes("ConfigMap", data={"x": text}),
    ):
        (message,) = secrets(about)
        assert what in message
        assert text not in message


@pytest.mark.parametrize(
    ("about", "place"),
    [
        (command(environment={"DB_PASSWORD": "hunter2"}), "environment.DB_PASSWORD"),
        (command(environment={"secret": "hunter2"}), "environment.secret"),
        (command(create="true", stdin='{"ssh": {"privateKey": "hunter2"}}'), "stdin.ssh.privateKey"),
        (release(values={"auth": {"clientSecret": "hunter2"}}), "values.auth.clientSecret"),
        (kubernetes("ConfigMap", data={"apiKey": "hunter2"}), "data.apiKey"),
        (
            kubernetes("Pod", spec={"containers": [{"env": [{"name": "API_TOKEN", "value": "hunter2"}]}]}),
            "spec.containers.0.env.0.API_TOKEN",
        ),
    ],
)
def test_a_secret_is_known_by_its_name(about: Resource, place: str) -> None:
    (message,) = secrets(about)
    assert message.startswith(f"{place} has the value of ")
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "text",
    [
        "tool --password hunter2",
        "tool --api-key=hunter2",
        "export K3S_TOKEN='hunter2'; k3s agent",
        'TOKEN="hunter2" tool',
    ],
)
def test_a_secret_is_known_by_the_name_that_a_command_gives_it(text: str) -> None:
    (message,) = secrets(command(create=text))
    assert "hunter2" not in message


@pytest.mark.parametrize(
    "text",
    [
        "sudo bash -c 'IFS= read -r token; install_file /etc/rancher/k3s/token \"$token\"'",
        "PASSWORD=$(cat /run/password) tool --token $TOKEN",
        "tool --token-file /run/token --timeout 5",
        "tool --private-key ~/.ssh/id_ed25519",
        "openssl x509 # -----BEGIN CERTIFICATE-----",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE public@key",
    ],
)
def test_references_paths_and_what_is_public_are_no_secrets(text: str) -> None:
    assert secrets(command(create=text)) == []


@pytest.mark.parametrize(
    "value", [UNKNOWN_STRING, MASKED, "", "true", "60s", "3600", "~/.ssh/id", "/run/secrets/token", "$TOKEN"]
)
def test_values_that_are_no_secret_under_any_name(value: str) -> None:
    assert secrets(command(environment={"TOKEN": value})) == []


@pytest.mark.parametrize("name", ["tokenSeconds", "passwordFile", "imagePullSecret", "certificate_seconds", "keyring"])
def test_names_that_only_look_like_those_of_secrets(name: str) -> None:
    assert secrets(release(values={name: "hunter2"})) == []


def test_a_secret_object_has_only_marked_values() -> None:
    (message,) = secrets(kubernetes("Secret", stringData={"user": "me", "more": MASKED}, data=UNKNOWN_STRING))
    assert message.startswith("stringData.user has a value of a Secret")


def test_where_marks_are_not_seen_secrets_may_be_where_they_belong_and_nowhere_else() -> None:
    for about in (
        command(stdin=KEY, hidden=False),
        command(connection={"privateKey": KEY, "password": "hunter2"}, remote=True, hidden=False),
        kubernetes("Secret", stringData={"key": KEY}, hidden=False),
        resource("pulumi:providers:kubernetes", {"kubeconfig": KUBECONFIG}, hidden=False),
    ):
        assert secrets(about) == []
    assert len(secrets(command(stdin=KEY, create=f"echo '{KEY}'", environment={"KEY": KEY}, hidden=False))) == 2
