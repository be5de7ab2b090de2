"""The specification in numpy, one input at a time, for comparison; it shares nothing with the code under test.

It follows the official code's batch-1 behaviour: empty tape slots are pooled, and only the keys are masked.
Numbers are float64, except where an entry is picked: there the float32 rule for used entries matters.
"""

import itertools
import math

import numpy as np


def layer_norm(x, scale, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * scale + bias


def softmax(x):
    weights = np.exp(x - x.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def glu(x):
    first, second = np.split(x, 2, axis=-1)
    return first / (1 + np.exp(-second))


def read(query, bank, *, capacity, threshold, key_dim, complex_query=True, ponder="entropy"):
    """Read a tape for one sample. `margin` says how close any pick or halt was to going the other way."""
    k = int(capacity // threshold)
    keys, q, used = bank[:, :key_dim], query[:key_dim], np.zeros(len(bank), np.float32)
    tape, picks = np.zeros((capacity, bank.shape[1])), np.full((capacity, k), -1)
    weight, loss, length, margin = 0.0, 0.0, 0, np.inf
    while length < capacity and weight < threshold:
        scores = keys @ q
        masked = scores.astype(np.float32) - np.float32(1e9) * used
        order = sorted(range(len(bank)), key=lambda entry, masked=masked: (-masked[entry], entry))
        picked = order[:k]
        margin = min(margin, *_gaps(masked, scores, order[: k + 1]))
        w = softmax(scores[picked] / math.sqrt(key_dim))
        loss += 1 - (np.sum(w**2) if ponder == "entropy" else w.max())
        margin = min(margin, abs(weight + w[0] - threshold))
        weight = min(threshold, weight + w[0])
        tape[length], picks[length] = w @ bank[picked], picked
        used[picked] += 1
        new_key = tape[length, :key_dim]
        q = (q + new_key) / 2 if complex_query else new_key
        length += 1
    return {"tape": tape, "length": length, "ponder": loss, "picks": picks, "margin": margin}


def _gaps(masked, scores, order):
    """Gaps between neighbours in the order that are not used entries tied by the float32 rule, nor equal."""
    fresh = [(a, b) for a, b in itertools.pairwise(order) if masked[b] > -1e8]
    return [gap for gap in (scores[a] - scores[b] for a, b in fresh) if abs(gap) > 1e-9] or [np.inf]


def read_fixed(query, bank, *, capacity, key_dim):
    """Take the best entries as they are."""
    scores = bank[:, :key_dim] @ query[:key_dim]
    order = sorted(range(len(bank)), key=lambda entry: (-scores[entry], entry))
    margin = min(_gaps(scores, scores, order[: capacity + 1]))
    return {"tape": bank[order[:capacity]], "picks": np.array([order[:capacity]]), "margin": margin}


class Model:
    """The official model as a function of its config and Flax parameters."""

    def __init__(self, config, params):
        self.config, self.ac = config, config["ac_config"]
        self.params = {name: value.astype(np.float64) for name, value in params.items()}

    def p(self, *path):
        return self.params["/".join(path)]

    def dense(self, x, *path):
        return x @ self.p(*path, "kernel") + self.p(*path, "bias")

    def norm(self, x, *path):
        return layer_norm(x, self.p(*path, "scale"), self.p(*path, "bias"))

    def patches(self, image, *path):
        kernel = self.p(*path, "kernel")
        side, grid = kernel.shape[0], image.shape[0] // kernel.shape[0]
        flat = image.reshape(grid, side, grid, side, 3).transpose(0, 2, 1, 3, 4).reshape(grid * grid, -1)
        return flat @ kernel.reshape(-1, kernel.shape[-1]) + self.p(*path, "bias")

    def tokens(self, x):
        is_image = self.config["model"] == "vit"
        tokens = self.patches(x, "embedding") if is_image else self.dense(x.reshape(1, -1), "embedding")
        if "cls" in self.params:
            tokens = np.concatenate([self.p("cls")[0], tokens])
        return tokens + self.p("posembed_input/pos_embedding")[0] if is_image else tokens

    def bank(self, x, layer):
        if self.ac["bank_type"] == "learn":
            return self.p(f"Transformer/AddTapeToken_{layer}/TapeBank_0/tape_tokens")
        if self.config["model"] == "parity":
            return self.dense(x, "pre_bank")
        entries = self.patches(x, "embedding_bank") + self.p("posembed_input_bank/pos_embedding")[0]
        return self.dense(entries, "pre_bank")

    def attend(self, x, mask, path):
        def project(name):
            return np.einsum("ld,dhe->hle", x, self.p(path, name, "kernel")) + self.p(path, name, "bias")[:, None]

        q, k, v = (project(name) for name in ("query", "key", "value"))
        scores = np.einsum("hqe,hke->hqk", q, k) / math.sqrt(q.shape[-1])
        mixed = softmax(np.where(mask, scores, -1e30)) @ v
        return np.einsum("hle,hed->ld", mixed, self.p(path, "out/kernel")) + self.p(path, "out/bias")

    def block(self, x, mask, index, num_tape):
        path = f"Transformer/encoderblock_{index}"
        x = x + self.attend(self.norm(x, path, "LayerNorm_0"), mask, f"{path}/MultiHeadDotProductAttention_0")
        y = self.norm(x, path, "LayerNorm_1")
        out = self.dense(gelu(self.dense(y, path, "MlpBlock_0/Dense_0")), path, "MlpBlock_0/Dense_1")
        if num_tape and self.ac["enc_tt_mlp_dim"]:
            own = self.dense(glu(self.dense(y, path, "tape_mlp/Dense_0")), path, "tape_mlp/Dense_1")
            out[-num_tape:] = own[-num_tape:]
        return x + out

    def read_layer(self, x, tokens, layer):
        path = f"Transformer/AddTapeToken_{layer}"
        norm = (self.p(path, "TapeBank_0/bank_norm/scale"), self.p(path, "TapeBank_0/bank_norm/bias"))
        query = layer_norm(tokens[0] if self.ac["query_type"] == "token" else tokens.mean(0), *norm)
        bank = layer_norm(self.bank(x, layer), *norm)
        sizes = {"capacity": self.ac["num_tape_tokens"], "key_dim": len(query) // self.ac["split_tt"]}
        dynamic = self.ac["dynamic_tape_length"]
        if dynamic is None:
            result = read_fixed(query, bank, **sizes)
        else:
            options = {"complex_query": dynamic["complex_query"], "ponder": dynamic["act_loss_type"]}
            result = read(query, bank, threshold=dynamic["act_epsilon"], **options, **sizes)
        digested = result["tape"]
        if self.ac["tt_mlp_dim"]:
            digested = self.dense(glu(self.dense(digested, path, "MlpBlock_0/Dense_0")), path, "MlpBlock_0/Dense_1")
        return result | {"query": query, "bank": bank, "digested": digested}

    def __call__(self, x):
        tokens, reads, capacity = self.tokens(x), [], self.ac["num_tape_tokens"]
        mask, blocks = np.ones(len(tokens), bool), []
        for index in range(self.config["num_layers"]):
            if index in self.ac["add_tape_token_to_layers"]:
                reads.append(self.read_layer(x, tokens, len(reads)))
                tokens = np.concatenate([tokens, reads[-1]["digested"]])
                mask = np.concatenate([mask, np.arange(capacity) < reads[-1].get("length", capacity)])
            tokens = self.block(tokens, mask, index, len(reads) * capacity)
            blocks.append(tokens)
        encoded = self.norm(tokens, "Transformer/encoder_norm")
        return self.golden(encoded, mask, reads) | {"block0_out": blocks[0], "encoder_out": encoded}

    def golden(self, encoded, mask, reads):
        classifier = str(self.config["classifier"])
        pools = {"gap": encoded.mean(0), "gmp": encoded.max(0), "gsp": encoded.sum(0)}
        out = {"logits": self.dense(pools.get(classifier, encoded[0]), "output_projection")}
        stacked = {"tape_tokens_raw": "tape", "tape_tokens": "digested", "topk_indices": "picks"}
        stacked |= {"query_normed": "query", "bank_normed": "bank"}
        if self.ac["dynamic_tape_length"] is not None:
            stacked |= {"n_updates": "length", "ponder_loss_per_layer": "ponder"}
            out |= {"ponder_loss": reads[-1]["ponder"], "input_mask": mask}
            if classifier == "gap":
                out["logits_masked_gap"] = self.dense(encoded[mask].mean(0), "output_projection")
        out |= {name: np.stack([read[key] for read in reads]) for name, key in stacked.items()}
        return out | {"margin": min(read["margin"] for read in reads)}
