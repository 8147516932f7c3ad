"""Rank the right answer of each query when N images and T texts look for each other.

The rank of a query is that of its best right answer: 1 + the number of wrong answers whose score is at least as high.
So ties count against the model, and other right answers never do. A model that gives all images one embedding has the
worst rank everywhere.

Scores are summed in float64 and rounded to float32: equal vectors then have equal scores wherever they stand in a
matrix, which a float32 product does not promise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rcc.errors import Problems

IMAGES, TEXTS = 1024, 4096  # rows and columns of the similarities that exist at a time
SHOWN = 3


@dataclass(frozen=True)
class Pairs:
    """The right answers: P pairs of an image and a text, sorted by image.

    Attributes:
        image, text: (P,) int64 indices.
        images, texts: N and T.
    """

    image: Tensor
    text: Tensor
    images: int
    texts: int

    @classmethod
    def of(cls, img2txt: Sequence[Sequence[int]], txt2img: Sequence[Sequence[int]], images: int, texts: int) -> Pairs:
        """From the texts of each image and the images of each text, which say the same twice.

        Raises:
            UserError: they are not as many as there are embeddings, point at none, miss a query or disagree.
        """
        problems = Problems("retrieval ground truth")
        forward = [(image, text) for image, found in enumerate(img2txt) for text in found]
        backward = {(image, text) for text, found in enumerate(txt2img) for image in found}
        for what, found, count in (("img2txt_gt", img2txt, images), ("txt2img_gt", txt2img, texts)):
            problems.check(len(found) == count, f"{what} has {len(found)} entries for {count} embeddings.")
            empty = [index for index, right in enumerate(found) if not right]
            problems.check(not empty, f"{what} has no right answer for {len(empty)} entries, first {empty[:SHOWN]}.")
        outside = [pair for pair in forward if not (0 <= pair[0] < images and 0 <= pair[1] < texts)]
        problems.check(not outside, f"there is no such (image, text): {outside[:SHOWN]}.")
        different = sorted(set(forward) ^ backward)
        problems.check(
            not different,
            f"img2txt_gt and txt2img_gt disagree on {len(different)} pairs (image, text), first {different[:SHOWN]}.",
        )
        problems.done()
        image, text = torch.tensor(sorted(set(forward)), dtype=torch.int64).T.contiguous()
        return cls(image, text, images, texts)

    def within(self, images: slice, texts: slice) -> tuple[Tensor, Tensor]:
        """Those of a block of the matrix, as indices into it."""
        begin, end = torch.searchsorted(self.image, torch.tensor([images.start, images.stop])).tolist()
        image, text = self.image[begin:end], self.text[begin:end]
        inside = (text >= texts.start) & (text < texts.stop)
        return image[inside] - images.start, text[inside] - texts.start

    def transposed(self) -> Pairs:
        """The same with images and texts changed over."""
        order = self.text.argsort(stable=True)
        return Pairs(self.text[order], self.image[order], self.texts, self.images)


@dataclass(frozen=True)
class Ranks:
    """The rank of each query, 1 for the best: `of_images` (N,) among the texts, `of_texts` (T,) among the images."""

    of_images: Tensor
    of_texts: Tensor


def retrieval_ranks(
    image_embeds: Tensor, text_embeds: Tensor, pairs: Pairs, block: tuple[int, int] = (IMAGES, TEXTS)
) -> Ranks:
    """Ranks of all queries of embeddings (N, D) and (T, D), both ways, by their inner products.

    The similarities are made once, `block` images × texts of them at a time.
    """
    own = own_scores(image_embeds, text_embeds, pairs)
    best_text = torch.full((pairs.images,), -torch.inf).scatter_reduce_(0, pairs.image, own, "amax")
    best_image = torch.full((pairs.texts,), -torch.inf).scatter_reduce_(0, pairs.text, own, "amax")
    of_images, of_texts = torch.ones(pairs.images, dtype=torch.int64), torch.ones(pairs.texts, dtype=torch.int64)
    for rows in slices(pairs.images, block[0]):
        images = image_embeds[rows].double()
        for columns in slices(pairs.texts, block[1]):
            scores = (images @ text_embeds[columns].double().T).float()
            scores[pairs.within(rows, columns)] = -torch.inf
            of_images[rows] += (scores >= best_text[rows, None]).sum(1)
            of_texts[columns] += (scores >= best_image[None, columns]).sum(0)
    return Ranks(of_images, of_texts)


def own_scores(image_embeds: Tensor, text_embeds: Tensor, pairs: Pairs) -> Tensor:
    """(P,) float32 score of each right pair."""
    parts = [
        (image_embeds[pairs.image[part]].double() * text_embeds[pairs.text[part]].double()).sum(1).float()
        for part in slices(len(pairs.image), TEXTS)
    ]
    return torch.cat(parts)


def slices(length: int, size: int) -> Iterator[slice]:
    """Slices of `size`, the last one shorter, that cover `length`."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))
