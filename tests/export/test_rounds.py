"""The graphs of a rounds model answer as the model does, one round after the other and in one pass."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from adatape.rounds.config import RoundsConfig
from adatape.rounds.model import to_pixels
from export.rounds import GLANCE_OUTPUTS, RoundGraphs, round_graphs
from tests.adatape.rounds.test_model import SMALL, make_model

TOLERANCE = 1e-4
MAX_STATE_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def graphs() -> RoundGraphs:
    return round_graphs(make_model(SMALL))


def run(graph: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = {node.name for node in session.get_inputs()}
    names = [node.name for node in session.get_outputs()]
    return dict(zip(names, session.run(names, {name: feeds[name] for name in wanted}), strict=True))


@pytest.mark.parametrize("batch", [1, 4])
def test_rounds_and_one_pass_answer_as_the_model_does(graphs: RoundGraphs, batch: int) -> None:
    model, random = make_model(SMALL), np.random.default_rng(batch)
    image = random.integers(256, size=(batch, 32, 32, 3), dtype=np.uint8)
    for layer in model.worth.parameters():
        assert layer.abs().max() > 0
    with torch.no_grad():
        told = model(to_pixels(torch.from_numpy(image))).logits_BPC
        worth = [model.worth(told[:, number], number) for number in range(told.shape[1])]
    state = {"image": image} | run(graphs.glance, {"image": image})
    np.testing.assert_allclose(state["logits"], told[:, 0], atol=TOLERANCE)
    np.testing.assert_allclose(state["accuracy_at"], worth[0], atol=TOLERANCE)
    assert set(state) == {"image", *GLANCE_OUTPUTS}
    for number, graph in enumerate(graphs.rounds, start=1):
        state |= run(graph, state)
        state["past"] = state["present"]
        np.testing.assert_allclose(state["logits"], told[:, number], atol=TOLERANCE)
        np.testing.assert_allclose(state["accuracy_at"], worth[number], atol=TOLERANCE)
    whole = run(graphs.one_pass, {"image": image})
    np.testing.assert_allclose(whole["logits"], told[:, -1], atol=TOLERANCE)
    np.testing.assert_allclose(whole["accuracy_at"], worth[-1], atol=TOLERANCE)


def test_state_between_rounds_is_small() -> None:
    graphs = round_graphs(make_model(RoundsConfig("shipped")))
    state = run(graphs.glance, {"image": np.zeros((1, 32, 32, 3), np.uint8)})
    state["image"] = np.zeros((1, 32, 32, 3), np.uint8)
    for graph in graphs.rounds[:-1]:
        kept = {"tokens", "context", "order", "past"} & set(state)
        assert sum(state[name].nbytes for name in kept) <= MAX_STATE_BYTES
        state = {**{name: state[name] for name in ("image", "context", "order")}, "past": run(graph, state)["present"]}
        assert sum(state[name].nbytes for name in ("context", "order", "past")) <= MAX_STATE_BYTES
