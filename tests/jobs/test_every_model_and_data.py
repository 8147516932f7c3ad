"""Every model=, data= and eval= from the command line, as far as they make sense together; the others are refused."""

import json
import math

import pytest
from toys.checkpoints import save_vit
from toys.data_sets import CLASSES

from rcc.data.sets.class_lists import class_names
from rcc.shipped import choices, config_dir

QUICK = ("threads=1", "device=cpu", "hydra.run.dir=run")
PYTHON = ("eval.captioning.metrics=[cider_d,bleu,rouge_l]", "eval.captioning.tokenizer=python")
ACCURACIES = ["accuracy", "top5_accuracy", "mean_class_accuracy"]
WAYS = ("image_to_text", "text_to_image")
METRICS = {
    "captioning": ["cider_d", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"],
    "classification": [f"classifier_{name}" for name in ACCURACIES],
    "efficiency": [],
    "probing": [
        *("neighbour_accuracy", "probe_accuracy"),
        *("neighbour_mean_class_accuracy", "probe_mean_class_accuracy"),
    ],
    "retrieval": [
        "r_mean",
        *(f"{way}_recall_at_{k}" for way in WAYS for k in (1, 5, 10)),
        *(f"{way}_median_rank" for way in WAYS),
    ],
    "search": ["ndcg_at_10", "recall_at_100", "mrr", "map"],
    "zero_shot": ACCURACIES,
}
COSTS = {"stored_bytes", "parameters", "nonzeros", "theoretical_flops", "latency_p50_batch_1", "bytes_on_disk"}
TOGETHER = [
    ("clip_tiny", "image_folder", "zero_shot"),
    ("clip_tiny", "image_text", "retrieval"),
    ("clip", "imagenet", "zero_shot"),
    ("clip", "flickr30k", "retrieval"),
    ("open_clip", "digits", "zero_shot"),
    ("siglip", "cifar100", "zero_shot"),
    ("siglip", "conceptual_captions", "retrieval"),
    ("blip", "flickr8k", "captioning"),
    ("blip_retrieval", "imagenet", "zero_shot"),
    ("blip_retrieval", "coco", "retrieval"),
    ("vit", "digits", "classification"),
    ("module", "cifar10", "classification"),
    ("transformers", "cifar10", "classification"),
    ("auto", "digits", "classification"),
    ("clip_vision", "cifar10", "probing"),
    ("whisper", "fsdd", "probing"),
    ("whisper", "speech_folder", "efficiency"),
    ("text_encoder", "documents", "search"),
    ("text_encoder", "cranfield", "search"),
]
"""Every model with every evaluator that it has the outputs for, each on another data set; all with efficiency too."""
APART = [
    ("vit", "cifar10", "zero_shot", ["'vit' reads images and no texts", "eval=classification"]),
    ("module", "cifar10", "zero_shot", ["'module' reads images and no texts", "eval=classification"]),
    ("transformers", "cifar10", "zero_shot", ["'transformers' reads images and no texts", "eval=classification"]),
    ("clip_vision", "cifar10", "zero_shot", ["'clip_vision' reads images and no texts", "eval=efficiency"]),
    ("blip", "cifar10", "zero_shot", ["'blip'", "text_embeds", "eval=captioning"]),
    ("whisper", "cifar10", "probing", ["'whisper' reads audio", "items of the data are images"]),
    ("vit", "fsdd", "classification", ["'vit' reads images", "has audio, labels"]),
    ("vit", "cifar10", "probing", ["'vit' does not give", "logits", "eval=classification"]),
    ("vit", "flickr8k", "retrieval", ["'vit' reads images and no texts", "eval=classification"]),
    ("clip", "cifar10", "retrieval", ["needs images with captions", "10 class names", "eval=zero_shot"]),
    ("clip", "digits", "retrieval", ["needs images with captions", "eval=zero_shot"]),
    ("clip", "flickr8k", "zero_shot", ["needs images with classes", "25 captions", "eval=retrieval"]),
    ("vit", "flickr8k", "classification", ["needs images with classes", "25 captions"]),
    ("clip", "flickr8k", "captioning", ["writes captions, such as BLIP", "eval=retrieval"]),
    ("blip", "cifar10", "captioning", ["has no captions to compare with", "data=flickr8k"]),
    ("clip", "cifar10", "classification", ["'logits'", "'clip'", "image_embeds", "eval=zero_shot"]),
    ("blip", "cifar10", "classification", ["'blip'", "eval=captioning"]),
    ("vit", "cifar10", "classification", ["airplane", "zero"]),
    ("clip", "digits", "search", ["needs queries with judgements", "data=documents"]),
    ("vit", "documents", "search", ["'vit' reads images and no texts", "eval=classification"]),
    ("text_encoder", "cifar10", "zero_shot", ["'text_encoder' reads texts; of the data came images"]),
]
"""What does not go together, and what the message says of what there is and what to take instead."""


def measured(tmp_path, run="run"):
    (model,) = json.loads((tmp_path / run / "evaluation.json").read_text())["models"]
    return {metric["name"]: metric for metric in model["metrics"]}, model["primary"]


def test_nothing_that_can_be_chosen_is_left_out():
    models, data, evaluators = (set(column) for column in zip(*TOGETHER, strict=True))
    assert models == set(choices(config_dir(), "model"))
    assert data == set(choices(config_dir(), "data"))
    assert evaluators == set(choices(config_dir(), "eval"))


@pytest.mark.parametrize(("model", "data", "evaluator"), TOGETHER)
def test_the_dense_model_is_measured(rcc_run, tmp_path, model_arguments, data_arguments, model, data, evaluator):
    joined = evaluator if evaluator == "efficiency" else f"{evaluator}+efficiency"
    more = PYTHON if evaluator == "captioning" else ()
    if (model, evaluator) == ("blip_retrieval", "retrieval"):
        more = ("eval.retrieval.rerank_top_k=2",)
    code, out, err = rcc_run(
        "job=evaluate",
        *model_arguments(model),
        *data_arguments(data),
        f"eval={joined}",
        "eval.efficiency.seconds=0",
        *QUICK,
        *more,
    )
    assert code == 0, err
    assert f"on the test split of {data}" in out
    found, primary = measured(tmp_path)
    wanted = [name for name in METRICS[evaluator] if not (name == "top5_accuracy" and data == "image_folder")]
    assert list(found)[: len(wanted)] == wanted
    assert primary == (wanted[0] if wanted else "latency_p50_batch_10")
    assert set(found) >= COSTS
    assert all(math.isfinite(metric["value"]) for metric in found.values())
    assert all(metric["standard_error"] is not None for name, metric in found.items() if "recall" in name)


def test_classes_of_a_classifier_are_found_by_name_among_those_of_imagenet(rcc_run, tmp_path, data_arguments):
    names = [class_names("imagenet")[label] for label in CLASSES]
    save_vit(tmp_path / "vit", [*names[::-1], "something else"])
    code, out, err = rcc_run(
        "job=evaluate", "model=vit", "model.path=vit", *data_arguments("imagenet"), "eval=classification", *QUICK
    )
    assert code == 0, err
    found, primary = measured(tmp_path)
    assert (list(found)[:3], primary) == (METRICS["classification"], "classifier_accuracy")
    assert "Classes were matched by name" in out


@pytest.mark.parametrize(("model", "data", "evaluator", "said"), APART)
def test_what_does_not_go_together_is_refused_with_what_there_is_and_what_to_take(
    rcc_run, tmp_path, model_arguments, data_arguments, model, data, evaluator, said
):
    code, _, err = rcc_run(
        "job=evaluate", *model_arguments(model), *data_arguments(data), f"eval={evaluator}", *QUICK
    )  # fmt: skip
    assert code == 2, err
    assert [part for part in said if part not in err] == [], err
    assert not (tmp_path / "run/evaluation.json").exists()
