"""List the evaluators that fit a model, for messages about one that does not."""

from __future__ import annotations

from rcc.models.abilities import AudioEncoder, Captioner, Classifier, Prompting, TextEncoder
from rcc.models.adapter import Adapter

FITTING = (
    (Captioner, "writes captions", "eval=captioning"),
    (Classifier, "tells classes", "eval=classification"),
    (Prompting, "embeds texts", "eval=search"),
    (TextEncoder, "embeds images and texts", "eval=zero_shot or eval=retrieval"),
    (AudioEncoder, "embeds sounds", "eval=probing"),
)


def what_fits(adapter: Adapter) -> str:
    """A sentence on what the model can do and what measures that."""
    for ability, does, evaluators in FITTING:
        if isinstance(adapter, ability):
            return f"'{adapter.name}' {does}: take {evaluators}."
    return (
        f"Of '{adapter.name}' alone costs can be measured (eval=efficiency), and its embeddings where it gives any"
        " (eval=probing); or take a model that embeds texts too."
    )
