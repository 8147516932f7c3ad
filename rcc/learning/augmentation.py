"""Name the ways to change training images at random, each a dataclass of its options that is called with pixels."""

from __future__ import annotations

from rcc.learning.affine import Affine
from rcc.learning.cropping import Crop

UNCHANGED, AFFINE, CROP = "none", "affine", "crop"
AUGMENTATIONS: dict[str, type[Affine] | type[Crop]] = {AFFINE: Affine, CROP: Crop}
