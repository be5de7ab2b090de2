"""How a rounds model, its teacher or a rival is trained."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RoundsRecipe:
    """One schedule.

    `full_first` is the share of the run in which the full tape's answer counts most and the answers before it
    `early_weight` of it; after that all prefixes count. `teacher_share` of the target is the teacher's answer, the
    rest the smoothed label. Units: epochs and warmup_epochs are passes over the training split; max_shift in pixels;
    cutout is the side of a square that is greyed, in pixels; ema the decay of the averaged weights that are kept.
    """

    epochs: float = 60.0
    batch_size: int = 256
    lr: float = 4e-3
    warmup_epochs: float = 1.0
    weight_decay: float = 0.1
    label_smoothing: float = 0.1
    full_first: float = 0.5
    early_weight: float = 0.15
    teacher_share: float = 0.8
    order_weight: float = 0.1
    max_shift: int = 3
    num_views: int = 0
    cutout: int = 0
    ema: float = 0.999
    validation_share: float = 0.1
