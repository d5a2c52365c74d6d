"""What is said of a back end that cannot be used: Pulumi's own words, as the pinned version says them, and what to do."""

import pytest

from ops import backend

REFUSED = 'operation error S3: GetObject, Get "http://127.0.0.1:9/b": dial tcp 127.0.0.1:9: connect: connection refused'
NO_ROLE = "operation error S3: GetObject, get identity: get credentials: failed to refresh cached credentials"
NO_BUCKET = "operation error S3: ListObjectsV2, StatusCode: 404, NoSuchBucket: The specified bucket does not exist"


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        (REFUSED, "nobody answers there"),
        (NO_ROLE, "AWS_ACCESS_KEY_ID"),
        (NO_BUCKET, "there is no such bucket"),
        (
            "missing google credentials: unable to find gcp credentials",
            "credentials as its own command line takes them",
        ),
        ("unable to open bucket azblob://b: azureblob: Options.AccountName is required", "credentials as its own"),
        ("PULUMI_ACCESS_TOKEN must be set for login during non-interactive CLI sessions", "`pulumi login`"),
    ],
)
def test_what_pulumi_says_comes_with_what_to_do(said: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_BACKEND_URL", "s3://team")
    first, second, third = str(backend.unreachable("s3://team", said)).splitlines()
    assert first == "the back end s3://team (PULUMI_BACKEND_URL) cannot be used"
    assert hint in second
    assert third == f"  Pulumi says: {said}"


def test_what_is_not_known_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULUMI_BACKEND_URL", raising=False)
    told = str(backend.unreachable("s3://team", "out of cheese"))
    assert told == "the back end s3://team cannot be used\n  Pulumi says: out of cheese"


def test_a_password_in_the_url_is_not_shown() -> None:
    assert backend.shown("postgres://me:hunter2@db/state") == "postgres://…@db/state"
