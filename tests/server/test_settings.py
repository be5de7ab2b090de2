import os

import pytest
from pydantic import ValidationError

from server.settings import Settings


def test_default_listens_on_this_machine_only():
    assert Settings().host == "127.0.0.1"


def test_every_field_says_why_one_would_change_it():
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_environment_is_read(monkeypatch):
    monkeypatch.setenv("ADATAPE_BACKEND", "fake")
    monkeypatch.setenv("ADATAPE_PORT", "12345")
    assert (Settings().backend, Settings().port) == ("fake", 12345)


def test_arguments_win_over_environment(monkeypatch):
    monkeypatch.setenv("ADATAPE_PORT", "12345")
    assert Settings(port=1).port == 1


def test_misspelt_variable_is_an_error_that_names_it(monkeypatch):
    monkeypatch.setenv("ADATAPE_PROT", "12345")
    with pytest.raises(ValidationError, match=r"ADATAPE_PROT.*expected any of .*ADATAPE_PORT"):
        Settings()


def test_variables_of_other_commands_are_left_alone(monkeypatch):
    monkeypatch.setenv("ADATAPE_DATA", "somewhere")
    assert Settings().port == 8000


def test_unknown_argument_is_an_error():
    with pytest.raises(ValidationError, match="prot"):
        Settings(prot=1)


@pytest.mark.parametrize(
    "wrong",
    [{"port": -1}, {"port": 70000}, {"num_instances": 0}, {"max_queue_delay_s": -1}, {"backend": "torch"}],
)
def test_impossible_values_are_errors(wrong):
    with pytest.raises(ValidationError):
        Settings(**wrong)


def test_a_request_that_could_never_be_admitted_is_a_configuration_error():
    with pytest.raises(ValidationError, match="max_request_samples; got 100"):
        Settings(max_request_samples=100, max_pending_samples=10)


def test_zero_threads_means_the_cores_this_process_may_use():
    assert Settings().num_threads == len(os.sched_getaffinity(0))
    assert Settings(intra_op_threads=3).num_threads == 3
