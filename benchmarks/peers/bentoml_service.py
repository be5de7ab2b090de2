"""BentoML: base64 in JSON, adaptive batching."""

import base64

import bentoml
import numpy as np
from graph import MAX_BATCH_SIZE, Padded


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 1024})
class Service:
    def __init__(self) -> None:
        self.graph = Padded()

    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_SIZE)
    def predict(self, image: list[str]) -> list[list[float]]:
        images = np.stack([self.graph.to_image(base64.b64decode(each)) for each in image])
        return self.graph.run(images).tolist()
