"""Which view of each training image an epoch shows, and what a teacher said to it.

A view is the image moved by whole pixels and, every second epoch, mirrored. Views follow from (seed, number) alone and
there are few of them, so a teacher answers each once and every student after it trains on the same answers.
Shape legend: N images, V views, B batch, C channels or classes, H height, W width.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from adatape.rounds.model import Classifier
from adatape.transformer import scale_pixels

TARGETS = "targets.safetensors"


@dataclass(frozen=True, slots=True)
class Views:
    """The views of one training split, on the device of its images; `num_views` 0 is one for every two epochs.

    Draws are made on the CPU, so they are the same on every device.

    Shapes: padded_NCHW uint8, the images with `max_shift` reflected pixels on each side.
    """

    padded_NCHW: Tensor
    max_shift: int
    num_views: int
    seed: int = 0

    @classmethod
    def of(cls, images_NHWC: Tensor, *, max_shift: int, num_views: int) -> "Views":
        """Pad the images once."""
        x_NCHW = images_NHWC.permute(0, 3, 1, 2)
        if not max_shift:
            return cls(x_NCHW.contiguous(), 0, num_views)
        chunks = [
            F.pad(part.float(), (max_shift,) * 4, mode="reflect").to(torch.uint8) for part in torch.split(x_NCHW, 4096)
        ]
        return cls(torch.cat(chunks), max_shift, num_views)

    def number(self, epoch: int) -> int:
        """Return the number of the view that an epoch shows; each is shown unmirrored and mirrored in turn."""
        return epoch // 2 % self.num_views if self.num_views else epoch // 2

    def take(self, index_B: Tensor, epoch: int) -> Tensor:
        """Return the pixels [B,C,H,W] of some images in an epoch, uint8."""
        return self.crop(index_B, self.number(epoch), self._is_mirrored(epoch)[index_B])

    def crop(self, index_B: Tensor, number: int, mirrored_B: Tensor) -> Tensor:
        """Return the pixels of one numbered view."""
        size = self.padded_NCHW.shape[-1] - 2 * self.max_shift
        top_B, left_B = self._shifts(number)[index_B].unbind(1)
        windows = self.padded_NCHW.unfold(2, size, 1).unfold(3, size, 1)
        x_BCHW = windows[index_B, :, top_B, left_B]
        return torch.where(mirrored_B[:, None, None, None], x_BCHW.flip(3), x_BCHW)

    def _shifts(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        shifts_N2 = torch.randint(2 * self.max_shift + 1, (len(self.padded_NCHW), 2), generator=generator)
        return shifts_N2.to(self.padded_NCHW.device)

    def _is_mirrored(self, epoch: int) -> Tensor:
        """Mirror half of the images in even epochs, the other half in odd ones."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + 999_983)
        first_N = torch.rand(len(self.padded_NCHW), generator=generator) < 0.5
        return (first_N ^ bool(epoch % 2)).to(self.padded_NCHW.device)


@torch.no_grad()
def ask_teacher(teacher: Classifier, views: Views, number: int, batch_size: int = 500) -> Tensor:
    """Return the teacher's log-probabilities [N,C] to one view: the mean of those to the view and its mirror image."""
    teacher.eval()
    parts = []
    for index_B in torch.split(torch.arange(len(views.padded_NCHW), device=views.padded_NCHW.device), batch_size):
        plain = torch.zeros_like(index_B, dtype=torch.bool)
        both = torch.cat([views.crop(index_B, number, plain), views.crop(index_B, number, ~plain)])
        logits_2BC = teacher(scale_pixels(both).contiguous(memory_format=torch.channels_last)).logits_BPC[:, -1]
        parts.append(logits_2BC.log_softmax(-1).view(2, len(index_B), -1).mean(0).cpu())
    return torch.cat(parts)


def save_targets(folder: Path, targets_VNC: Tensor, views: Views) -> None:
    """Write a teacher's answers in half precision, with the views they belong to."""
    save_file({"targets": targets_VNC.half().contiguous()}, folder / TARGETS, _described(views))


def known_targets(folder: Path, views: Views) -> list[Tensor]:
    """Return the answers to the first views that were asked for already, one tensor [N,C] a view.

    Raises: ValueError if they belong to other images or shifts.
    """
    path = folder / TARGETS
    if not path.is_file():
        return []
    with safe_open(path, framework="pt") as file:
        described, targets_VNC = file.metadata(), file.get_tensor("targets")
    if described != _described(views):
        raise ValueError(f"{path}; got answers to views {described}; expected {_described(views)}")
    return list(targets_VNC.unbind(0))


def load_targets(folder: Path, views: Views) -> Tensor:
    """Read a teacher's answers [V,N,C].

    Raises: ValueError if some are missing, or they belong to other views.
    """
    known = known_targets(folder, views)
    if len(known) < views.num_views:
        expected = f"{views.num_views}, as adatape.rounds.teach writes"
        raise ValueError(f"--teacher; got {folder} with answers to {len(known)} views; expected {expected}")
    return torch.stack(known[: views.num_views])


def _described(views: Views) -> dict[str, str]:
    return {"images": str(len(views.padded_NCHW)), "max_shift": str(views.max_shift), "seed": str(views.seed)}
