"""job=index and job=search: what was embedded is found, by the model that made it and by no other."""

import csv
import json
import shutil

import pytest

import rcc
from rcc import EmbeddingStore

INDEX = ("job=index", "threads=1", "store.path=store")
SEARCH = ("job=search", "threads=1", "store.path=store")
CAPTIONS = 24


@pytest.fixture(scope="session")
def captioned(tmp_path_factory, digits):
    """A table of digits, each with a caption of its own."""
    folder = tmp_path_factory.mktemp("captioned")
    rows = [("image", "caption")]
    for place in range(CAPTIONS):
        digits.test.images[place].save(folder / f"{place}.png")
        rows.append(
            (
                f"{place}.png",
                f"a photo of the digit {digits.class_names[digits.test.labels[place]]} {'abcdef'[place % 6]}",
            )
        )
    with (folder / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return (
        "data=image_text",
        f"data.path={folder}/captions.csv",
        "data.calibration=2",
        "data.selection=2",
        "data.test=16",
    )


def test_what_is_indexed_is_found_with_its_fields_and_only_what_is_new_is_embedded(rcc_run):
    code, out, err = rcc_run(*INDEX, "split=selection", "hydra.run.dir=one")
    assert code == 0, err
    assert "store: 284 of 284 images embedded" in out
    code, out, err = rcc_run(*SEARCH, "query=a photo of the digit three", "top_k=5", "filter=label=three")
    assert code == 0, err
    lines = [line.split() for line in out.splitlines() if "selection/" in line]
    assert len(lines) == 5
    assert {line[2] for line in lines} == {"three"}
    assert [float(line[-1]) for line in lines] == sorted((float(line[-1]) for line in lines), reverse=True)
    code, out, err = rcc_run(*INDEX, "split=selection", "hydra.run.dir=two")
    assert code == 0, err
    assert "store: 0 of 284 images embedded, 284 were there unchanged" in out


def test_a_search_finds_what_retrieval_measures(rcc_run, captioned, tmp_path):
    code, _, err = rcc_run("job=evaluate", "threads=1", *captioned, "eval=retrieval", "hydra.run.dir=measured")
    assert code == 0, err
    items = json.loads((tmp_path / "measured/items.json").read_text())
    code, _, err = rcc_run(*INDEX, *captioned, "split=test", "hydra.run.dir=indexed")
    assert code == 0, err
    store, model = EmbeddingStore("store"), rcc.load_model("clip_tiny")
    ids = list(store.ids())
    captions = [store.fields_of(id)["caption"] for id in ids]
    found = store.search(model.encode_text(captions).numpy(), top_k=len(ids))
    ranks = [[match.id for match in each].index(id) + 1 for id, each in zip(ids, found, strict=True)]
    wanted = _ranks(items)
    assert len(ranks) == len(wanted) == 16
    assert ranks == wanted


def _ranks(items):
    """The ranks of texts' images, wherever the file keeps them."""
    if isinstance(items, dict):
        if "text_to_image_ranks" in items:
            return items["text_to_image_ranks"]
        items = list(items.values())
    for each in items if isinstance(items, list) else ():
        if (found := _ranks(each)) is not None:
            return found
    return None


def test_files_are_known_by_their_place_in_the_folder_and_pruned_when_they_are_gone(rcc_run, captioned, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(captioned[1].partition("=")[2].removesuffix("/captions.csv"), folder)
    data = ("data=image_text", f"data.path={folder}/captions.csv", *captioned[2:])
    assert rcc_run(*INDEX, *captioned, "hydra.run.dir=one")[0] == 0
    before = sorted(EmbeddingStore("store").ids())
    code, out, err = rcc_run(*INDEX, *data, "hydra.run.dir=two")
    assert code == 0, err
    assert f"store: 0 of {len(before)} images embedded" in out
    assert all(not name.startswith("/") for name in before)
    code, out, err = rcc_run(*INDEX, *data, "split=test", "prune=true", "hydra.run.dir=three")
    assert code == 0, err
    assert f"{len(before) - 16} deleted; 16 in all" in out


def test_an_artifact_makes_a_store_that_finds_it_again(rcc_run, tmp_path):
    rcc.save(rcc.load_model("clip_tiny"), tmp_path / "artifact")
    code, _, err = rcc_run(*INDEX, "artifact=artifact", "split=test", "data.test=40", "hydra.run.dir=one")
    assert code == 0, err
    assert EmbeddingStore("store").manifest.source == "../artifact"
    code, out, err = rcc_run(*SEARCH, "query=three:1 nine:-0.5", "top_k=2")
    assert code == 0, err
    assert "the nearest 2 of 40" in out
    (tmp_path / "artifact").rename(tmp_path / "elsewhere")
    code, _, err = rcc_run(*SEARCH, "query=three")
    assert code == 2
    assert "is not at store/../artifact any more: name it with artifact=" in err
    assert rcc_run(*SEARCH, "query=three", "artifact=elsewhere")[0] == 0


def test_a_store_of_other_weights_is_refused(rcc_run, small_clip):
    assert rcc_run(*INDEX, "split=test", "data.test=20", "hydra.run.dir=one")[0] == 0
    code, _, err = rcc_run(*SEARCH, *small_clip, "query=three")
    assert code == 2
    assert "was made by other weights than dense's" in err
    code, _, err = rcc_run(*INDEX, *small_clip, "split=test", "data.test=20", "hydra.run.dir=two")
    assert code == 2
    assert "holds vectors made by other weights" in err
    assert len(EmbeddingStore("store")) == 20


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("job=index",), "job=index needs a store to write: store.path=<directory>"),
        (("job=index", "store.path=s", "split=tests"), "unknown split 'tests'. Did you mean 'test'?"),
        (("job=index", "store.path=s", "batch_size=0"), "batch_size is 0"),
        (("job=index", "store.path=s", "store.index=hnsw"), "unknown store.index 'hnsw'"),
        (("job=index", "store.path=s", "store.index=faiss"), "has an effect from 1,000,000 rows on, and there will be"),
        (("job=index", "store.path=s", "artifact=[dense,dense]"), "more than once"),
    ],
)
def test_what_cannot_be_indexed_is_refused(rcc_run, words, message, tmp_path):
    code, _, err = rcc_run(*words)
    assert code == 2
    assert message in err
    assert not (tmp_path / "s").exists()


def test_a_classifier_of_images_is_indexed_by_what_its_tower_pools(rcc_run, model_arguments):
    code, _, err = rcc_run(*INDEX, *model_arguments("vit"), "split=test", "data.test=4", "hydra.run.dir=one")
    assert code == 0, err
    assert (EmbeddingStore("store").manifest.kind, EmbeddingStore("store").manifest.dimensions) == ("vision", 32)


def test_a_model_that_embeds_nothing_is_refused(rcc_run, model_arguments):
    code, _, err = rcc_run(*INDEX, *model_arguments("module"), "split=test", "data.test=4", "hydra.run.dir=one")
    assert code == 2
    assert "of whose outputs none is an embedding of images" in err
