"""MLServer: Open Inference Protocol, base64 in a BYTES tensor, adaptive batching."""

import numpy as np
from graph import Padded
from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class PaddedModel(MLModel):
    async def load(self) -> bool:
        self.graph = Padded()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        images = np.stack([self.graph.to_image(data) for data in Base64Codec.decode_input(payload.inputs[0])])
        logits = NumpyCodec.encode_output("logits", self.graph.run(images))
        return InferenceResponse(model_name=self.name, outputs=[logits])
