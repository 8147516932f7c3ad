"""Data sets by name, imported only when asked for."""

from __future__ import annotations

from typing import Any

from rcc.by_name import call, find
from rcc.data.splits import Splits

LOADERS = {
    "digits": "rcc.data.sets.digits:load_digits",
    "cifar10": "rcc.data.sets.cifar:load_cifar10",
    "cifar100": "rcc.data.sets.cifar:load_cifar100",
    "coco": "rcc.data.sets.caption_sets:load_coco",
    "conceptual_captions": "rcc.data.sets.conceptual_captions:load_conceptual_captions",
    "flickr30k": "rcc.data.sets.caption_sets:load_flickr30k",
    "flickr8k": "rcc.data.sets.caption_sets:load_flickr8k",
    "image_folder": "rcc.data.sets.image_folder:load_image_folder",
    "image_text": "rcc.data.sets.image_text:load_image_text",
    "imagenet": "rcc.data.sets.imagenet:load_imagenet",
}


def load_data(name: str, **options: Any) -> Splits:
    """The splits of the data set `name`, with the options of its loader.

    Raises:
        UserError: an unknown name or option, or an option the loader refuses.
    """
    splits: Splits = call("data", name, find("data", name, LOADERS), options)
    return splits
