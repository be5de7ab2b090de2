"""The key that the tools show: on every request, and nowhere else."""

import argparse

import pytest

from loadtest.api_key import VARIABLE, ApiKey, to_headers
from loadtest.infer_requests import FORMS, to_request
from loadtest.usage_errors import UsageError
from server.settings import NOT_SETTINGS
from tests.loadtest.test_infer_requests import pictures, target

KEY = "adk_0123_secret"


def test_it_comes_from_the_option_or_the_environment(monkeypatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert dict(to_headers(None)) == {}
    monkeypatch.setenv(VARIABLE, KEY)
    assert dict(to_headers(None)) == dict(to_headers("")) == {"x-api-key": KEY}
    assert dict(to_headers("adk_other")) == {"x-api-key": "adk_other"}


def test_a_server_started_beside_it_is_not_disturbed() -> None:
    assert VARIABLE in NOT_SETTINGS


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "sch\u00f6n"])
def test_what_could_be_no_key_is_refused_without_being_told(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        to_headers(key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_every_call_shows_it_and_nothing_else_does(form: str) -> None:
    asked = target(headers=to_headers(KEY))
    assert b"\r\nx-api-key: adk_0123_secret\r\n" in to_request(form, asked, pictures(), 0, 3).render()
    for shown in (asked, argparse.Namespace(api_key=ApiKey(KEY)), to_headers(KEY)):
        assert "secret" not in repr(shown)
