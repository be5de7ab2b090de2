"""The embedded backend on GPUs: onnxruntime's CUDA provider, one session a graph on each device.

Trunks are the static graphs of the repository, one a bucket, because CUDA graphs want fixed shapes and addresses: for
each (bucket, batch size) there is a slot of buffers on the device, bound once, whose launches are recorded once and
replayed from then on. Batches are padded to the next size that has a slot. The reader branches (it skips the bank at
cap 0), and onnxruntime records no branches, so it runs as it is. What passes between the stages goes through the host,
where the engine regroups samples, so any device may run either stage.

All work of a device runs on one thread: onnxruntime allows no recording from several.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import onnxruntime

from server.backends.base import Backend, Hidden, Model, ReaderOutput
from server.backends.cuda.devices import PROVIDERS, Device, DeviceMissing, Devices
from server.backends.cuda.trunks import CudaTrunk
from server.backends.ort import (
    LOAD_FAULTS,
    READER_OUTPUTS,
    TRUNK_INPUTS,
    TRUNK_OUTPUTS,
    is_cuda_offered,
    open_session,
    session_options,
)
from server.errors import BackendFailed
from server.models.manifest import GraphSpec, Manifest
from server.records import Floats, Inputs, Ints

_log = logging.getLogger("adatape.cuda")


@dataclass(frozen=True, slots=True)
class DeviceSessions:
    """A family's sessions on one device."""

    reader: Any
    trunks: Mapping[int, CudaTrunk]


class CudaModel:
    """A family on one or several devices; each batch goes to the least loaded one."""

    is_ready = True

    def __init__(self, devices: "Devices", graphs: Sequence[DeviceSessions], input_name: str) -> None:
        self.device = PROVIDERS[devices.kind]
        self._devices = devices
        self._graphs = graphs
        self._input = input_name

    def read(self, inputs_BX: Inputs, max_tape_B1: Ints) -> ReaderOutput:
        feeds = {self._input: inputs_BX, "max_tape": max_tape_B1}
        with self._devices.least_loaded() as (index, device):
            reader = self._graphs[index].reader
            return ReaderOutput(*device.run(lambda: reader.run(READER_OUTPUTS, feeds)))

    def run_trunk(self, hidden_BSD: Hidden, tape_BTD: Hidden, tape_length_B1: Ints) -> Floats:
        feeds = {"hidden": hidden_BSD, "tape": tape_BTD, "tape_length": tape_length_B1}
        with self._devices.least_loaded() as (index, device):
            trunk = self._graphs[index].trunks[tape_BTD.shape[1]]
            return device.run(lambda: trunk.run(feeds))


class CudaBackend:
    """Loads families from a model repository onto GPUs."""

    def __init__(self, root: Path, devices: Devices, *, num_threads: int, records: bool = True) -> None:
        self._root = root
        self._devices = devices
        self._options = session_options(num_threads)
        self._records = records
        if devices.kind == "cuda":
            if not is_cuda_offered():
                raise DeviceMissing("device", "an onnxruntime without CUDA", "onnxruntime-gpu")
            onnxruntime.preload_dlls()  # pip puts CUDA's libraries where no loader looks

    def load(self, manifest: Manifest) -> CudaModel:
        """Load a family onto every device, and record the launches of its trunks.

        Raises: DeviceMissing; BackendFailed for graphs that cannot be loaded or recorded.
        """
        graphs = [device.run(partial(self._load, device, manifest)) for device in self._devices.all]
        _log.info("cuda_loaded family=%s devices=%d cuda_graphs=%s", manifest.family, len(graphs), self._records)
        return CudaModel(self._devices, graphs, manifest.input.name)

    def _load(self, device: Device, manifest: Manifest) -> DeviceSessions:
        reader = self._open(device, manifest.reader, [manifest.input.name, "max_tape"], READER_OUTPUTS, records=False)
        trunks = {}
        for bucket, spec in zip(manifest.buckets, manifest.trunks, strict=True):
            inputs = TRUNK_INPUTS if bucket > 0 else TRUNK_INPUTS[:1]
            session = self._open(device, spec, inputs, TRUNK_OUTPUTS, records=self._records)
            trunks[bucket] = CudaTrunk(device, session, manifest, bucket)
        if self._records:
            _record(manifest, trunks)
        return DeviceSessions(reader, trunks)

    def _open(
        self, device: Device, graph: GraphSpec, inputs: list[str], outputs: list[str], *, records: bool
    ) -> onnxruntime.InferenceSession:
        """Open a graph on a device and keep it there: onnxruntime would fall back to the CPU after a failure."""
        providers = device.providers(records=records)
        session = open_session(self._root, graph, self._options, providers, inputs, outputs)
        device.check(session)
        session.disable_fallback()
        return session


def _record(manifest: Manifest, trunks: Mapping[int, CudaTrunk]) -> None:
    for bucket, trunk in trunks.items():
        try:
            trunk.record()
        except LOAD_FAULTS as error:
            what, got = f"CUDA graph of {manifest.family}, bucket {bucket}", str(error)
            raise BackendFailed(what, got, "one that can be recorded, or the setting cuda_graphs off") from error


class CudaOrCpuBackend:
    """Loads onto a GPU where onnxruntime can really use one, else onto the CPU, and logs that."""

    def __init__(self, cuda: Backend, cpu: Backend) -> None:
        self._cuda = cuda
        self._cpu = cpu

    def load(self, manifest: Manifest) -> Model:
        try:
            return self._cuda.load(manifest)
        except DeviceMissing as error:
            _log.warning("cuda_unusable family=%s reason=%r", manifest.family, str(error))
            return self._cpu.load(manifest)
