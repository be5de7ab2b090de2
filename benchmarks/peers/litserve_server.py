"""LitServe: base64 in JSON, batches of what waits."""

import base64
import sys

import litserve as ls
import numpy as np
from graph import MAX_BATCH_SIZE, Padded


class Api(ls.LitAPI):
    def setup(self, device: str) -> None:
        del device
        self.graph = Padded()

    def decode_request(self, request: dict) -> "np.ndarray":
        return self.graph.to_image(base64.b64decode(request["image"]))

    def batch(self, inputs: list) -> "np.ndarray":
        return np.stack(inputs)

    def predict(self, images: "np.ndarray") -> "np.ndarray":
        return self.graph.run(images)

    def unbatch(self, logits: "np.ndarray") -> list:
        return list(logits)

    def encode_response(self, logits: "np.ndarray") -> dict:
        return {"logits": logits.tolist()}


if __name__ == "__main__":
    server = ls.LitServer(Api(max_batch_size=MAX_BATCH_SIZE, batch_timeout=0.001), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
