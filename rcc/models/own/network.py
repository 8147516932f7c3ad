"""Adapt a user's own network (`model=module`), given by its import path and a safetensors file.

Its inputs are the parameters of its forward: pixels of images, tokens of texts, or any fields of the data by name.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from rcc.command_line import command_line
from rcc.errors import Problems, UserError
from rcc.layers.model import Batch
from rcc.limits import expanded
from rcc.models.batches import call_by_name, chosen_outputs, named_outputs
from rcc.models.device import pick_device, pick_dtype
from rcc.models.own.fields import PIXELS, TOKENIZER, TOKENS, Fields, read_tokenizer, tensor_of, tokens_of
from rcc.models.own.image_input import ImageInput
from rcc.models.own.import_path import Arguments, build, emptied, fill
from rcc.models.own.module import ModuleAdapter
from rcc.models.own.shipped_input import shipped_input
from rcc.models.single_layer import class_name
from rcc.models.transformers.classifying import LOGITS, classification_loss

DESCRIPTION = "network.json"
"""In an artifact: what it needs besides code and weights."""

log = logging.getLogger(__name__)


class NetworkAdapter(ModuleAdapter):
    """A module with how the fields of data become its inputs.

    Args:
        module: the network; it is changed in place.
        images: how an image becomes pixels, where it takes pixels.
        class_names: in the order of the logits; () where they are those of the data, in its order.
        target: the import path the network came from; written down, never followed.
        output: the name, or the names, of what counts as its output; None for its logits where it gives any, else all.
        tokenizer: of texts, where it takes tokens.
        max_length: most tokens of a text; None for what the tokenizer says.
        notes: what is to be said of how it was read.
    """

    name: ClassVar[str] = "module"
    moments_set_by = "model.mean={mean} model.std={std}"

    def __init__(
        self,
        module: nn.Module,
        images: ImageInput | None = None,
        class_names: Sequence[str] = (),
        target: str = "",
        output: str | Sequence[str] | None = None,
        tokenizer: Any = None,
        max_length: int | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.fields = Fields.of(module)
        super().__init__(module, reads=self.fields.reads)
        self.images, self.target, self.notes = images or ImageInput(), target, tuple(notes)
        self.class_names = tuple(str(name) for name in class_names)
        self.output = (output,) if isinstance(output, str) else tuple(output or ())
        self.tokenizer, self.max_length = tokenizer, max_length

    @classmethod
    def load(
        cls,
        target: str | None = None,
        path: str | Path | None = None,
        arguments: Mapping[str, Any] | Sequence[Any] | None = None,
        image_size: int | None = None,
        resize: int | None = None,
        channels: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        interpolation: str | None = None,
        class_names: Sequence[str] | None = None,
        output: str | Sequence[str] | None = None,
        tokenizer: str | None = None,
        max_length: int | None = None,
        check_input: bool = True,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = torch.float32,
    ) -> Self:
        """Build `target` with `arguments` and fill it from the safetensors file `path`, in evaluation mode.

        Args:
            target: 'package.module:name' of a class, a method or a function that makes the module.
            arguments: a mapping by name, or a list in order.
            image_size, resize, channels, mean, std, interpolation: see `ImageInput`; what is None is what the network
                ships, see `shipped_input`, else the usual.
            output: see the class.
            check_input: let jobs try other means and scales on some images, and warn of better ones.
            tokenizer: a folder with tokenizer.json; None for that of the weights.

        Raises:
            UserError: what is missing, cannot be imported or built, or weights that do not fit.
        """
        place, precision = pick_device(device), pick_dtype(dtype)
        given: dict[str, Any] = {"size": image_size, "resize": resize, "channels": channels, "mean": mean, "std": std,
                 "interpolation": interpolation}  # fmt: skip
        ImageInput(
            **{name: value for name, value in given.items() if value is not None}
        )  # told before anything is built
        _check_given(target, path)
        module = build(str(target), arguments)
        beside = expanded("model.path", str(path)).parent
        fill(module, str(path))
        images, note = _image_input(module, beside, given)
        words = read_tokenizer(tokenizer, beside, _vocabulary(module)) if Fields.of(module).tokens else None
        adapter = cls(
            module.to(place, precision), images, class_names or (), str(target), output, words, max_length,
            (note,) if note and Fields.of(module).pixels else (),
        )  # fmt: skip
        adapter.check_input = check_input
        return adapter.eval()

    @classmethod
    def planned(  # type: ignore[override]
        cls, target: str | None = None, arguments: Arguments = None, **_: Any
    ) -> Self:
        """The network as it is built, with its parameters on the meta device: none is read."""
        _check_given(target, "")
        return cls(emptied(build(str(target), arguments)), target=str(target)).eval()

    @classmethod
    def around(cls, module: nn.Module, directory: Path) -> Self:
        """`module` with what the artifact in `directory` says of its inputs, outputs and classes.

        Raises:
            UserError: the description is not one that this adapter wrote.
        """
        try:
            content = json.loads((directory / DESCRIPTION).read_text())
            images = ImageInput(**content["images"])
            class_names, target = content["class_names"], str(content["target"])
            output, longest = [str(name) for name in content.get("output", ())], content.get("max_length")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UserError(f"'{directory / DESCRIPTION}' does not describe a network: {error!r}.") from error
        words = read_tokenizer(None, directory, _vocabulary(module)) if Fields.of(module).tokens else None
        return cls(module, images, class_names, target, output, words, longest)

    @classmethod
    def skeleton(cls, directory: Path) -> Self:
        """None: no code is imported because a file names it.

        Raises:
            UserError: always; says how to give the network.
        """
        target = cls.around(nn.Identity(), Path(directory)).target
        told = command_line("job=evaluate", f"artifact={directory}", "model=module", f"model.target={target}")
        raise UserError(
            f"'{directory}' was written from the network '{target}', whose code only you have; nothing is imported"
            f" because a file says so. If you trust it, say it: {told}, with the same model.arguments; or from Python"
            " rcc.load(directory, skeleton=module)."
        )

    # Adapter.

    @property
    def batch_names(self) -> Sequence[str] | None:  # type: ignore[override]
        return (PIXELS,) if self.fields.only_pixels else None

    @property
    def pixel_moments(self) -> tuple[list[float], list[float]] | None:
        """(mean, std) of each channel by which pixels are normalised; None where it takes none."""
        return self.images.moments() if self.fields.pixels else None

    def prepare(  # type: ignore[override]
        self, images: Sequence[Any] | None = None, texts: Sequence[str] | None = None, **fields: Any
    ) -> Batch:
        """What the forward takes of images, texts and fields of its own names; a text that comes with images to a
        network of images is passed over.

        Raises:
            UserError: the forward requires a field that is not there, or one is of another kind.
        """
        dtype = next((each.dtype for each in self.module.parameters() if each.is_floating_point()), torch.float32)
        batch: Batch = {name: tensor_of(name, values) for name, values in fields.items() if name in self.fields.every}
        if images is not None and self.fields.pixels and self.fields.pixels not in batch:
            batch[self._pixels] = self.images.pixels(images)
        if texts is not None and self.fields.tokens and self.tokenizer is not None:
            batch |= tokens_of(self.tokenizer, texts, self.max_length, self.fields.every)
        self._refuse_lacking(batch, {"images": images, "texts": texts, **fields})
        return {name: each.to(self.device, dtype if each.is_floating_point() else None) for name, each in batch.items()}

    @property
    def _pixels(self) -> str:
        """The entry of a batch that holds pixels."""
        return PIXELS if self.fields.only_pixels else self.fields.pixels

    def _refuse_lacking(self, batch: Batch, given: Mapping[str, Any]) -> None:
        wanted = (self._pixels,) if self.fields.only_pixels else self.fields.requires
        lacking = [name for name in wanted if name not in batch]
        if not lacking and batch:
            return
        there = ", ".join(name for name, value in given.items() if value is not None) or "nothing"
        advice = ""
        if self.fields.only_pixels and there == "texts":
            raise UserError("the model 'module' reads images and no texts: it has no text embeddings.")
        if TOKENS in lacking and self.tokenizer is None:
            advice = (
                f" Texts become tokens where {TOKENIZER} lies beside the weights, or with model.tokenizer=<directory>."
            )
        raise UserError(
            f"the forward of {class_name(self.module)} requires {', '.join(self.fields.requires)}, and of the data came"
            f" {there}: {', '.join(lacking) or 'every input'} is lacking.{advice} Give data with fields of these names."
        )

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """What counts as the output: by `output=`; else `logits`, which a lone tensor (B, classes) is taken for, where
        there are any; else every tensor that the network gives.

        Raises:
            UserError: an input is lacking, an output is asked for that is not there, or one has no row an item.
        """
        self._refuse_lacking(batch, dict.fromkeys(batch, True))
        if self.fields.only_pixels:
            count = len(batch[PIXELS])
            result = self.module(batch[PIXELS])
        else:
            count = len(next(iter(batch.values())))
            result = call_by_name(self.module, batch)
        who = class_name(self.module)
        found = named_outputs(result)
        if list(found) == ["output"] and found["output"].dim() == 2:
            found = {LOGITS: found["output"]}
        chosen = (
            chosen_outputs(found, self.output, who) if self.output or LOGITS not in found else {LOGITS: found[LOGITS]}
        )
        problems = Problems()
        problems.check(bool(chosen), f"{who} returned {type(result).__name__}, in which there is no tensor.")
        for name, tensor in chosen.items():
            whole = tensor.dim() > 0 and len(tensor) == count
            problems.check(
                whole,
                f"{who} gave {name} {list(tensor.shape)} for {count} items; an output must have a row for each. Give"
                " logits (B, classes), or say which output counts: model.output=<name>.",
            )
        problems.done()
        logits = chosen.get(LOGITS)
        if self.class_names and logits is not None and len(self.class_names) != logits.shape[-1]:
            raise UserError(
                f"{len(self.class_names)} class_names were given and the network has {logits.shape[-1]} logits."
            )
        return chosen

    def loss(self, batch: Batch) -> Tensor:
        """See `classification_loss`."""
        return classification_loss(self, batch)

    def save_files(self, directory: Path) -> None:
        """Write how fields become inputs, the classes' names, where the network came from, and its tokenizer."""
        directory.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {
            "class_names": list(self.class_names),
            "images": self.images.to_json(),
            "target": self.target,
        }
        if self.output:
            content["output"] = list(self.output)
        if self.max_length is not None:
            content["max_length"] = self.max_length
        (directory / DESCRIPTION).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
        if self.tokenizer is not None:
            from rcc.models.transformers.processor_files import save_tokenizer  # late: it imports transformers

            save_tokenizer(directory, self.tokenizer)


def _image_input(module: nn.Module, beside: Path, given: Mapping[str, Any]) -> tuple[ImageInput, str]:
    """What was given, else what the network ships, else the usual; and a sentence on what it ships."""
    shipped, where = shipped_input(module, beside)
    said = {name: value for name, value in given.items() if value is not None}
    options = {"size": "image_size"}
    for name, value in said.items():
        if name in shipped and _plain(shipped[name]) != _plain(value):
            option = options.get(name, name)
            log.warning(
                "model.%s=%s was given, and %s says %s; what was given is used.", option, value, where, shipped[name]
            )
    if "size" in said and "size" in shipped and "resize" in shipped:
        shipped = shipped | {"resize": round(said["size"] * shipped["resize"] / shipped["size"])}
    images = ImageInput(**{**shipped, **said})
    taken = [name for name in shipped if name not in said]
    told = ", ".join(f"{options.get(name, name)}={shipped[name]}" for name in taken)
    return images, f"images are made as {where} says: {told}." if taken else ""


def _plain(value: Any) -> Any:
    return [float(each) for each in value] if isinstance(value, list | tuple) else value


def _vocabulary(module: nn.Module) -> int | None:
    """The tokens that the network embeds, where it has one table of them: its largest embedding."""
    return max((each.num_embeddings for each in module.modules() if isinstance(each, nn.Embedding)), default=None)


def _check_given(target: str | None, path: str | Path | None) -> None:
    problems = Problems("model 'module'")
    problems.check(target is not None, "say which network it is: model.target=my_package.nets:build.")
    problems.check(path is not None, "give its weights: model.path=weights.safetensors; they are not made up.")
    problems.done()
