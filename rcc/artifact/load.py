"""Load a model from an artifact: `rcc.load`, through a skeleton without weights."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from rcc.artifact.manifest import read_manifest
from rcc.artifact.restore import restore_weights
from rcc.artifact.size import storage_dtype
from rcc.artifact.verify import check_files, files_of
from rcc.errors import UserError
from rcc.learning.held import held
from rcc.models.adapter import Adapter
from rcc.models.own.module import ModuleAdapter


def load(
    directory: Path | str,
    dtype: str | None = "float32",
    verify: bool = True,
    skeleton: nn.Module | None = None,
    trainable: bool = False,
    adapter: type[Adapter] | None = None,
) -> Adapter:
    """The model of an artifact, in evaluation mode, ready to use. Nothing in an artifact is ever unpickled.

    Args:
        directory: the `artifact` directory of a run, or its file `artifact.rcc`.
        dtype: 'float32', 'float16' or 'bfloat16' to compute in, whatever the values are stored in; None
            computes in the stored dtype.
        verify: compare every byte with the manifest's SHA-256 first.
        skeleton: for a model that came from Python as a plain module: one of the same architecture; its
            parameters are replaced and may be on the meta device.
        trainable: hold zeros, grids and factors by `rcc.held`, so that an ordinary optimiser over
            `model.module.parameters()` can fine-tune the model, and `rcc.save` then writes it as small as before.
        adapter: the class that wrote the artifact, where it is one of your own; a manifest names shipped ones alone.

    Raises:
        UserError: the directory is no artifact, is damaged, needs a skeleton, or is of another adapter.
    """
    directory = Path(directory)
    compute = storage_dtype(dtype)
    manifest = read_manifest(directory)
    from rcc.models.registry import adapter_class  # late: an adapter may import transformers

    if adapter is not None and adapter.name != manifest.adapter:
        raise UserError(
            f"{directory} holds a model of the adapter '{manifest.adapter}' and adapter={adapter.__name__} loads those"
            f" of '{adapter.name}'."
        )
    kind = adapter or adapter_class(manifest.adapter)
    if verify:
        check_files(directory, manifest)
    with files_of(directory, manifest) as files:
        if skeleton is None:
            model = kind.skeleton(files)
        elif issubclass(kind, ModuleAdapter):
            model = kind.around(skeleton, files)
        else:
            raise UserError(
                f"{directory} holds a model of the adapter '{manifest.adapter}', which builds its own skeleton: "
                "leave out skeleton=."
            )
    restore_weights(model, manifest, directory, compute, verify, fresh=skeleton is None)
    if trainable:
        model.module.requires_grad_(True)
        held(model)
    return model.eval()
