"""Data sets by name, imported only when asked for."""

from __future__ import annotations

from typing import Any

from rcc.by_name import call, find
from rcc.data.splits import Splits

LOADERS = {
    "digits": "rcc.data.digits:load_digits",
    "cifar10": "rcc.data.cifar:load_cifar10",
    "cifar100": "rcc.data.cifar:load_cifar100",
    "flickr8k": "rcc.data.flickr8k:load_flickr8k",
}


def load_data(name: str, **options: Any) -> Splits:
    """The splits of the data set `name`, with the options of its loader.

    Raises:
        UserError: an unknown name or option, or an option the loader refuses.
    """
    splits: Splits = call("data", name, find("data", name, LOADERS), options)
    return splits
