"""Names and prompts of published data sets: how many, in what order, spelled as the literature has them."""

from __future__ import annotations

import re

import pytest

from rcc.data.sets.class_lists import class_names, templates, wnids


def test_imagenet_has_a_thousand_classes_in_the_order_of_their_wordnet_ids() -> None:
    ids, names = wnids(), class_names("imagenet")
    assert len(ids) == len(names) == 1000
    assert list(ids) == sorted(set(ids))
    assert all(re.fullmatch(r"n\d{8}", each) for each in ids)
    # As torchvision, the ILSVRC development kit and the hub's imagenet-1k number them.
    known = {0: ("n01440764", "tench"), 207: ("n02099601", "Golden Retriever"), 281: ("n02123045", "tabby cat")}
    known |= {817: ("n04285008", "sports car"), 963: ("n07873807", "pizza"), 999: ("n15075141", "toilet paper")}
    assert {label: (ids[label], names[label]) for label in known} == known
    assert len(set(names)) == 998  # 'missile' and 'sunglasses' stand for two classes each
    assert {name for name in names if names.count(name) > 1} == {"missile", "sunglasses"}


def test_cifar_classes_are_in_the_order_of_their_labels() -> None:
    assert class_names("cifar10") == (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    hundred = class_names("cifar100")
    assert len(set(hundred)) == 100
    assert list(hundred) == sorted(hundred)
    assert (hundred[0], hundred[26], hundred[99]) == ("apple", "crab", "worm")


@pytest.mark.parametrize(("dataset", "count"), [("imagenet", 80), ("cifar", 18)])
def test_templates_are_all_there_and_hold_the_name_once(dataset: str, count: int) -> None:
    found = templates(dataset)
    assert len(set(found)) == len(found) == count
    assert all(template.count("{}") == 1 for template in found)
    assert "a bad photo of a {}." in found
