"""Augmentation of whole batches on the device they train on.

Shape legend: B batch, H height, W width, C classes.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from adatape.configs import Recipe


def augment(x_BHWC: Tensor, recipe: Recipe) -> Tensor:
    """Return randomly moved, flipped and recoloured copies of images in [-1,1]; draws from torch's global generator."""
    if recipe.shift or recipe.min_zoom < 1 or recipe.flip or recipe.rotate_deg:
        x_BHWC = random_affine(x_BHWC, recipe)
    return random_color(x_BHWC, recipe.color) if recipe.color else x_BHWC


def random_affine(x_BHWC: Tensor, recipe: Recipe) -> Tensor:
    """Crop, zoom, rotate and flip in one resampling; what comes from outside the image is reflected."""
    batch, device = len(x_BHWC), x_BHWC.device
    area_B = torch.empty(batch, device=device).uniform_(recipe.min_zoom, 1)
    aspect_B = torch.empty(batch, device=device).uniform_(-1, 1) * (0.25 if recipe.min_zoom < 1 else 0)
    width_B = (area_B * aspect_B.exp()).sqrt().clamp(max=1)
    height_B = (area_B / aspect_B.exp()).sqrt().clamp(max=1)
    angle_B = torch.empty(batch, device=device).uniform_(-1, 1) * torch.pi / 180 * recipe.rotate_deg
    sign_B = (
        torch.where(torch.rand(batch, device=device) < 0.5, -1.0, 1.0)
        if recipe.flip
        else torch.ones(batch, device=device)
    )
    move_B2 = torch.empty(batch, 2, device=device).uniform_(-1, 1)
    room_B2 = torch.stack([1 - width_B, 1 - height_B], 1) + _whole_pixels(recipe, x_BHWC.shape[1])
    move_B2 = _rounded(move_B2 * room_B2, recipe, x_BHWC.shape[1])
    rows_x = torch.stack([width_B * sign_B * angle_B.cos(), -height_B * angle_B.sin(), move_B2[:, 0]], 1)
    rows_y = torch.stack([width_B * sign_B * angle_B.sin(), height_B * angle_B.cos(), move_B2[:, 1]], 1)
    x_BCHW = x_BHWC.permute(0, 3, 1, 2)
    grid = F.affine_grid(torch.stack([rows_x, rows_y], 1), list(x_BCHW.shape), align_corners=False)
    return F.grid_sample(x_BCHW, grid, padding_mode="reflection", align_corners=False).permute(0, 2, 3, 1)


def _whole_pixels(recipe: Recipe, side: int) -> float:
    return 2 * recipe.shift / side


def _rounded(move_B2: Tensor, recipe: Recipe, side: int) -> Tensor:
    """Without zoom or rotation a shift by whole pixels resamples nothing: keep the image sharp."""
    if recipe.min_zoom < 1 or recipe.rotate_deg:
        return move_B2
    return (move_B2 * side / 2).round() * 2 / side


def random_color(x_BHWC: Tensor, strength: float) -> Tensor:
    """Jitter brightness, contrast and saturation by up to `strength`."""
    b, c, s = (1 + strength * (2 * torch.rand(3, len(x_BHWC), 1, 1, 1, device=x_BHWC.device) - 1)).unbind(0)
    x_BHWC = (x_BHWC + 1) * b - 1
    mean = x_BHWC.mean(dim=(1, 2, 3), keepdim=True)
    x_BHWC = (x_BHWC - mean) * c + mean
    grey = x_BHWC.mean(dim=3, keepdim=True)
    return ((x_BHWC - grey) * s + grey).clamp(-1, 1)


def mix(x_BHWC: Tensor, y_BC: Tensor, probability: float) -> tuple[Tensor, Tensor]:
    """With this probability blend the batch with itself reversed: mixup or cutmix, half each."""
    draw = torch.rand(3).tolist()
    if draw[0] >= probability:
        return x_BHWC, y_BC
    share = torch.distributions.Beta(0.8, 0.8).sample().item() if draw[1] < 0.5 else draw[2]
    if draw[1] < 0.5:
        x_BHWC = share * x_BHWC + (1 - share) * x_BHWC.flip(0)
    else:
        x_BHWC, share = _cut(x_BHWC, share)
    return x_BHWC, share * y_BC + (1 - share) * y_BC.flip(0)


def _cut(x_BHWC: Tensor, share: float) -> tuple[Tensor, float]:
    height, width = x_BHWC.shape[1:3]
    side = (1 - share) ** 0.5
    cut_h, cut_w = int(height * side), int(width * side)
    top = int(torch.randint(0, height - cut_h + 1, ()).item())
    left = int(torch.randint(0, width - cut_w + 1, ()).item())
    mixed = x_BHWC.clone()
    mixed[:, top : top + cut_h, left : left + cut_w] = x_BHWC.flip(0)[:, top : top + cut_h, left : left + cut_w]
    return mixed, 1 - cut_h * cut_w / (height * width)
