"""From a trained run to the model repository: reader and trunk graphs, verified, measured and described."""

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime reads it once, at its first import
