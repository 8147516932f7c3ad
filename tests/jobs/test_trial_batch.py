"""A dry run puts one batch through the model: what came out, or what was lacking, is said; nothing is written."""

from __future__ import annotations

import torch
from safetensors.torch import save_file, save_model
from toys.checkpoints import bert_tokenizer, save
from toys.language import bert_config
from toys.networks import ResNet, Sentences
from transformers import BertModel

MODULE = ("dry_run=true", "stage=quant", "eval=classification", "model=module")


def test_shapes_of_what_went_in_and_came_out_are_said(rcc_run, tmp_path):
    save_model(ResNet(), str(tmp_path / "weights.safetensors"))
    code, out, err = rcc_run(
        *MODULE, "model.target=toys.networks:ResNet", "model.path=weights.safetensors", "model.image_size=32"
    )
    assert code == 0, err
    assert "One batch went through the model in" in out
    assert "pixel_values [16, 3, 32, 32], labels [16] gave logits [16, 10]." in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights.safetensors"]


def test_a_batch_that_does_not_fit_ends_the_plan_with_what_it_held(rcc_run, tmp_path):
    save_model(ResNet(channels=1), str(tmp_path / "weights.safetensors"))
    code, out, err = rcc_run(
        *MODULE, "model.target=toys.networks:ResNet", "model.arguments={channels: 1}",
        "model.path=weights.safetensors", "model.image_size=32",
    )  # fmt: skip
    assert code == 2
    assert "Plan, with values stored as float16" in out
    assert "one batch did not go through the model: RuntimeError: " in err
    assert "The batch holds pixel_values [16, 3, 32, 32], labels [16]." in err
    save_model(Sentences(), str(tmp_path / "texts.safetensors"))
    code, _, err = rcc_run(*MODULE, "model.target=toys.networks:Sentences", "model.path=texts.safetensors")
    assert code == 2
    assert "requires input_ids, attention_mask, and of the data came texts" in err
    broken = ResNet().state_dict()
    broken["head.bias"] = torch.full((10,), 3e38)
    broken["head.weight"] = torch.full((10, 16), 3e38)
    save_file(broken, tmp_path / "huge.safetensors")
    code, _, err = rcc_run(
        *MODULE, "model.target=toys.networks:ResNet", "model.path=huge.safetensors", "model.image_size=32"
    )
    assert code == 2
    assert "its outputs logits hold NaN or infinity" in err


def test_without_data_the_plan_stands_and_says_so(rcc_run):
    code, out, err = rcc_run("dry_run=true", "stage=quant", "data=imagenet", "data.path=nowhere")
    assert code == 0, err
    assert "No batch was put through the model, for there is no data: " in out


def test_an_encoder_of_texts_is_planned_and_evaluated_by_its_config_alone(rcc_run, tmp_path):
    config = bert_config()
    config.vocab_size = len(bert_tokenizer())
    save(tmp_path / "gpt2-like", BertModel, config, bert_tokenizer())
    code, out, err = rcc_run("dry_run=true", "stage=quant", "model=auto", "model.path=gpt2-like", "model.pooling=mean")
    assert code == 0, err
    assert "model=auto takes model=transformers: config.json says BertModel." in out
    assert "gave text_embeds [16, 16]." in out
    assert out.count("WARNING: 'gpt2-like' is called after 'gpt2'") == 1
    code, out, err = rcc_run(
        "job=evaluate", "model=auto", "model.path=gpt2-like", "eval=efficiency", "hydra.run.dir=run", "threads=1"
    )
    assert code == 0, err
    assert "parameters" in out
