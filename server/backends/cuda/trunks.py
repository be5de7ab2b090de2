"""The trunks of one family on one device, their buffers bound and their launches recorded."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from server.backends.cuda.devices import Device
from server.backends.ort import TRUNK_OUTPUTS
from server.models.manifest import Manifest
from server.records import Floats

_GRAPH_ID = "gpu_graph_id"


def sizes_up_to(max_batch_size: int) -> list[int]:
    """Return the batch sizes that have slots: powers of two, and the largest batch itself."""
    powers = (1 << exponent for exponent in range(max_batch_size.bit_length()))
    return [*(size for size in powers if size < max_batch_size), max_batch_size]


class TrunkSlot:
    """The bound buffers of one batch size of one trunk on one device. Only for the device's thread."""

    def __init__(self, device: Device, session: Any, inputs: Mapping[str, Any], num_classes: int, size: int) -> None:
        self._session = session
        self._host = {name: np.zeros((size, *shape), dtype) for name, (shape, dtype) in inputs.items()}
        self._on_device = {name: device.buffer(array.shape, array.dtype.type) for name, array in self._host.items()}
        self._logits = device.buffer((size, num_classes), np.float32)
        self._binding = session.io_binding()
        for name, buffer in self._on_device.items():
            self._binding.bind_ortvalue_input(name, buffer)
        self._binding.bind_ortvalue_output(TRUNK_OUTPUTS[0], self._logits)
        self._options = onnxruntime.RunOptions()
        self._options.add_run_config_entry(_GRAPH_ID, str(size))

    def run(self, feeds: Mapping[str, NDArray[Any]], num_rows: int) -> Floats:
        """Return the logits of a batch no larger than the slot; rows beyond it hold what an earlier batch left."""
        for name, array in self._host.items():
            array[:num_rows] = feeds[name]
            self._on_device[name].update_inplace(array)
        self._session.run_with_iobinding(self._binding, self._options)
        logits_BC: Floats = np.array(self._logits.numpy()[:num_rows])
        return logits_BC


class CudaTrunk:
    """One bucket's trunk on one device. Only for the device's thread."""

    def __init__(self, device: Device, session: Any, manifest: Manifest, bucket: int) -> None:
        self._sizes = sizes_up_to(manifest.max_batch_size)
        shapes = {
            "hidden": ((manifest.num_tokens, manifest.dim), np.float32),
            "tape": ((bucket, manifest.dim), np.float32),
            "tape_length": ((1,), np.int32),
        }
        self._inputs = {node.name: shapes[node.name] for node in session.get_inputs()}
        self._new_slot = partial(TrunkSlot, device, session, self._inputs, len(manifest.labels))
        self._slots: dict[int, TrunkSlot] = {}

    def run(self, feeds: Mapping[str, NDArray[Any]]) -> Floats:
        """Return logits_BC."""
        num_rows = len(feeds["hidden"])
        size = next(size for size in self._sizes if size >= num_rows)
        if size not in self._slots:
            self._slots[size] = self._new_slot(size)
        return self._slots[size].run(feeds, num_rows)

    def record(self) -> None:
        """Make every slot and run it once: its launches are recorded then."""
        for size in self._sizes:
            self.run({name: np.zeros((size, *shape), dtype) for name, (shape, dtype) in self._inputs.items()})
