import dataclasses

import numpy as np
import pytest

from server.records import InferRequest, Priority, RequestLimits


def test_a_request_counts_its_samples():
    request = InferRequest("r", "m", np.zeros((3, 8, 8, 3), np.uint8), arrival_s=1.0)
    assert request.num_samples == 3


def test_an_empty_ask_minds_nothing():
    ask = RequestLimits()
    assert (ask.max_tape, ask.max_flops, ask.deadline_s, ask.min_accuracy) == (None, None, None, None)
    assert ask.priority is Priority.NORMAL


def test_records_do_not_change_under_the_reader():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RequestLimits().max_tape = 3
