"""Ray Serve: raw bytes, batches of what waits."""

import sys
import time

import numpy as np
import ray
from graph import MAX_BATCH_SIZE, Padded
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse


@serve.deployment(max_ongoing_requests=1024, ray_actor_options={"num_cpus": 1})
class Service:
    def __init__(self) -> None:
        self.graph = Padded()

    @serve.batch(max_batch_size=MAX_BATCH_SIZE, batch_wait_timeout_s=0.001)
    async def classify(self, images: list) -> list:
        return self.graph.run(np.stack(images)).tolist()

    async def __call__(self, request: Request) -> JSONResponse:
        """Answer with a length: what is returned bare is sent in chunks, at a cost."""
        return JSONResponse(await self.classify(self.graph.to_image(await request.body())))


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, configure_logging=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Service.bind(), blocking=False)
    while True:
        time.sleep(60)
