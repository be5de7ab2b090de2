"""Golden-format files made from the numpy oracle: random parameters, no official code needed."""

import json

import numpy as np

from tests.adatape.oracle import Model

MARGIN = 2e-3
"""Picks and halts must not hang on rounding; a file is drawn again until they do not."""

DYNAMIC = {
    "num_token_per_step": 1,
    "act_epsilon": 2.0,
    "act_loss_weight": 0.01,
    "act_loss_type": "entropy",
    "bernoulli_p": 0.0,
    "complex_query": True,
    "query_noise": 0.0,
}
TAPE = {
    "add_tape_token_to_layers": [1],
    "num_tape_tokens": 6,
    "tape_bank_size": 30,
    "tt_mlp_dim": 0,
    "tt_dropout_rate": 0.0,
    "enc_tt_mlp_dim": 0,
    "enc_tt_dropout_rate": 0.0,
    "split_tt": 2,
    "bank_norm": True,
    "bank_type": "input",
    "patch_bank_size": 4,
    "query_type": "token",
    "dynamic_tape_length": DYNAMIC,
}
VIT = {
    "model": "vit",
    "num_classes": 3,
    "mlp_dim": 12,
    "num_layers": 3,
    "num_heads": 2,
    "hidden_size": 8,
    "patch_size": 8,
    "image_size": 24,
    "classifier": "token",
}
PARITY = {key: value for key, value in VIT.items() if key not in ("patch_size", "image_size")} | {
    "model": "parity",
    "num_classes": 2,
    "seq_len": 20,
}


def official(base=VIT, classifier="token", *, dynamic=DYNAMIC, **changes):
    """Return an official config; `changes` go to the tape, or where only the model has the key, there."""
    model = {key: changes.pop(key) for key in list(changes) if key in base}
    return base | model | {"classifier": classifier, "ac_config": TAPE | changes | {"dynamic_tape_length": dynamic}}


def dynamic(**changes):
    return DYNAMIC | changes


CASES = {
    "input_token": official(),
    "input_gap": official(classifier="gap", query_type="gap"),
    "many_heads": official(num_heads=4, hidden_size=16, split_tt=4, num_layers=2),
    "learn_gap_mlp": official(classifier="gap", bank_type="learn", tt_mlp_dim=7),
    "tape_ffn": official(enc_tt_mlp_dim=6),
    "tape_ffn_gap_mlp": official(classifier="gap", query_type="gap", enc_tt_mlp_dim=6, tt_mlp_dim=5),
    "gmp": official(classifier="gmp"),
    "gsp": official(classifier="gsp"),
    "position_0": official(classifier="0"),
    "simple_query": official(dynamic=dynamic(complex_query=False)),
    "loss_max": official(dynamic=dynamic(act_loss_type="max")),
    "threshold_fraction": official(dynamic=dynamic(act_epsilon=1.7)),
    "threshold_below_1": official(dynamic=dynamic(act_epsilon=0.9)),
    "one_read_a_step": official(dynamic=dynamic(act_epsilon=5.5)),
    "two_layers_gap": official(classifier="gap", query_type="gap", add_tape_token_to_layers=[0, 2], tt_mlp_dim=5),
    "three_layers_learn": official(bank_type="learn", add_tape_token_to_layers=[0, 1, 2], enc_tt_mlp_dim=6),
    "fixed": official(dynamic=None),
    "fixed_learn_mlp": official(dynamic=None, classifier="gap", query_type="gap", bank_type="learn", tt_mlp_dim=5),
    "exhausted": official(bank_type="learn", tape_bank_size=4, num_tape_tokens=6, dynamic=dynamic(act_epsilon=3.0)),
    "parity": official(PARITY, split_tt=1),
    "parity_gap": official(PARITY, "gap", query_type="gap", add_tape_token_to_layers=[0], enc_tt_mlp_dim=6),
}


def make_golden(config, seed=0, num_inputs=3):
    """Return the arrays of a golden file, every row from running one input alone."""
    for attempt in range(200):
        rng = np.random.default_rng([seed, attempt])
        params, inputs = random_params(config, rng), random_inputs(config, rng, num_inputs)
        model = Model(config, params)
        rows = [model(x.astype(np.float64)) for x in inputs]
        if min(row["margin"] for row in rows) > MARGIN:
            break
    else:
        raise AssertionError("no parameters with a clear margin in 200 attempts")
    outputs = {name: _stored(np.stack([row[name] for row in rows])) for name in rows[0] if name != "margin"}
    arrays = {f"params/{name}": value for name, value in params.items()} | outputs
    return arrays | {"inputs": inputs, "config_json": np.array(json.dumps(config))}


def _stored(array):
    return array.astype(np.float32 if array.dtype == np.float64 else np.int32)


def random_inputs(config, rng, num_inputs):
    if config["model"] == "parity":
        return np.eye(3, dtype=np.float32)[rng.integers(0, 3, (num_inputs, config["seq_len"]))]
    return rng.normal(size=(num_inputs, config["image_size"], config["image_size"], 3)).astype(np.float32)


def random_params(config, rng):
    """Return parameters in the Flax layout: activations near 1, weights peaked so that tape lengths differ."""

    def draw(name, shape):
        fan_in = np.prod(shape[:-1]) if name.endswith("kernel") else 1
        spread = {"scale": 0.2, "bias": 0.3}.get(name.rsplit("/", 1)[-1], 1.0) / np.sqrt(fan_in)
        centre = 1.6 if name.endswith("bank_norm/scale") else float(name.endswith("scale"))
        return (rng.normal(size=shape) * spread + centre).astype(np.float32)

    return {name: draw(name, shape) for name, shape in shapes(config).items()}


def shapes(config):
    dim, ac = config["hidden_size"], config["ac_config"]
    heads, mlp = (config["num_heads"], dim // config["num_heads"]), config["mlp_dim"]
    out = {"Transformer/encoder_norm/scale": (dim,), "Transformer/encoder_norm/bias": (dim,)}
    out |= _dense("output_projection", dim, config["num_classes"]) | _embedding(config, dim)
    if str(config["classifier"]) == "token":
        out["cls"] = (1, 1, dim)
    for layer in range(len(ac["add_tape_token_to_layers"])):
        path = f"Transformer/AddTapeToken_{layer}"
        out |= _norm(f"{path}/TapeBank_0/bank_norm", dim)
        out |= _mlp(f"{path}/MlpBlock_0", dim, 2 * ac["tt_mlp_dim"], ac["tt_mlp_dim"]) if ac["tt_mlp_dim"] else {}
        if ac["bank_type"] == "learn":
            out[f"{path}/TapeBank_0/tape_tokens"] = (ac["tape_bank_size"], dim)
    for index in range(config["num_layers"]):
        path = f"Transformer/encoderblock_{index}"
        out |= _norm(f"{path}/LayerNorm_0", dim) | _norm(f"{path}/LayerNorm_1", dim)
        out |= _mlp(f"{path}/MlpBlock_0", dim, mlp, mlp)
        if ac["enc_tt_mlp_dim"] and index >= ac["add_tape_token_to_layers"][0]:
            out |= _mlp(f"{path}/tape_mlp", dim, 2 * ac["enc_tt_mlp_dim"], ac["enc_tt_mlp_dim"])
        attention = f"{path}/MultiHeadDotProductAttention_0"
        for name in ("query", "key", "value"):
            out |= {f"{attention}/{name}/kernel": (dim, *heads), f"{attention}/{name}/bias": heads}
        out |= {f"{attention}/out/kernel": (*heads, dim), f"{attention}/out/bias": (dim,)}
    return out


def _embedding(config, dim):
    if config["model"] == "parity":
        return _dense("embedding", 3 * config["seq_len"], dim) | _dense("pre_bank", 3, dim)
    patch, image, bank_patch = config["patch_size"], config["image_size"], config["ac_config"]["patch_bank_size"]
    num_tokens = (image // patch) ** 2 + (config["classifier"] == "token")
    out = {"embedding/kernel": (patch, patch, 3, dim), "embedding/bias": (dim,)}
    out["posembed_input/pos_embedding"] = (1, num_tokens, dim)
    if config["ac_config"]["bank_type"] == "input":
        out |= {"embedding_bank/kernel": (bank_patch, bank_patch, 3, dim), "embedding_bank/bias": (dim,)}
        out |= {"posembed_input_bank/pos_embedding": (1, (image // bank_patch) ** 2, dim)}
        out |= _dense("pre_bank", dim, dim)
    return out


def _dense(path, rows, columns):
    return {f"{path}/kernel": (rows, columns), f"{path}/bias": (columns,)}


def _norm(path, dim):
    return {f"{path}/scale": (dim,), f"{path}/bias": (dim,)}


def _mlp(path, dim, up, down):
    return _dense(f"{path}/Dense_0", dim, up) | _dense(f"{path}/Dense_1", down, dim)
