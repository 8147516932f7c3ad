"""Find the classes of the library that a config.json names: never code of the checkpoint's own."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from rcc.errors import UserError, nearest
from rcc.models.transformers.checkpoint import architectures_of, quiet
from rcc.models.transformers.configuration import FOREIGN, read_config, read_file


def classes_of(where: str, local: bool = True) -> tuple[type[PretrainedConfig], type[PreTrainedModel]]:
    """The configuration's and the model's class for the config.json of a checkpoint directory or hub name.

    The model is the one of `architectures`; without it, the bare one of `model_type`.

    Raises:
        UserError: neither leads to a class of the library; says which there are like it.
    """
    named = architectures_of(where, local)
    kind = read_file(where, "config.json", local).get("model_type")
    foreign = [key for key in FOREIGN if key in read_file(where, "config.json", local)]
    own = f" Its config.json names code of its own ({', '.join(foreign)}), which is never run." if foreign else ""
    if len(named) > 1:
        raise UserError(f"'{where}': config.json names several architectures ({', '.join(named)}); one is loaded.")
    if named:
        found = getattr(transformers, named[0], None) if named[0].isidentifier() else None
        if not (isinstance(found, type) and issubclass(found, PreTrainedModel) and found.config_class):
            near = nearest(named[0], (name for name in dir(transformers) if "For" in name or name.endswith("Model")))
            raise UserError(
                f"'{where}' holds {named[0]}, which this version of transformers ({transformers.__version__}) does not"
                f" have.{near}{own} Any network goes by model=module model.target=<module:name>."
            )
        if (
            isinstance(kind, str)
            and kind in CONFIG_MAPPING
            and not issubclass(found.config_class, CONFIG_MAPPING[kind])
        ):
            raise UserError(
                f"'{where}': config.json contradicts itself: architectures is {named[0]}, of the model_type"
                f" '{found.config_class.model_type}', and model_type is '{kind}'."
            )
        return found.config_class, found
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise UserError(
            f"'{where}': config.json has neither architectures nor a model_type that transformers knows"
            f" ({kind!r}).{nearest(str(kind), CONFIG_MAPPING)}{own} Write architectures: ['…Model'] into it."
        )
    config_class = CONFIG_MAPPING[kind]
    model_class: Any = MODEL_MAPPING.get(config_class, None)
    if not isinstance(model_class, type):
        raise UserError(f"'{where}': the model_type '{kind}' has no bare model: write architectures into config.json.")
    return config_class, model_class


def config_of(where: str, config_class: type[PretrainedConfig], local: bool = True) -> Any:
    """The configuration, every size checked, see `read_config`."""
    with quiet():
        return read_config(where, config_class, local)
