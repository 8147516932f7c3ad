"""A collection in splits: queries select and test, documents that nobody judged calibrate and train."""

from __future__ import annotations

import pytest

from rcc.data.collection import Collection, search_splits
from rcc.data.cutting import Cut
from rcc.data.splits import Splits
from rcc.errors import UserError

IDS = tuple(f"d{number}" for number in range(20))
TITLES = tuple(f"title {number}" if number % 2 else "" for number in range(20))
TEXTS = tuple(f"{title} text {number}".strip() for number, title in enumerate(TITLES))
QUERIES = {f"q{number}": f"question {number}" for number in range(6)}
JUDGED = {f"q{number}": {f"d{number}": 2, f"d{number + 1}": 0} for number in range(5)}


def split(queries: dict[str, str] | None = QUERIES, **options: object) -> Splits:
    judged = options.pop("judged", {"all": JUDGED})
    unpaired = str(options.pop("unpaired", "refuse"))
    sizes = {"train": None, "calibration": None, "selection": None, "test": None} | options
    return search_splits("documents", Collection(IDS, TITLES, TEXTS, queries or {}, judged), Cut(**sizes), unpaired)  # type: ignore[arg-type]


def ids(splits: Splits, role: str) -> list[str]:
    return [splits[role].input.name(place) for place in range(len(splits[role]))]


def test_queries_measure_and_documents_without_a_judgement_calibrate() -> None:
    found = split()
    assert found.sizes() == {"train": 3, "calibration": 7, "selection": 1, "test": 4}
    assert sorted(ids(found, "selection") + ids(found, "test")) == sorted(JUDGED)
    judged = {each for documents in JUDGED.values() for each in documents}
    learned = {*ids(found, "calibration"), *ids(found, "train")}
    assert not learned & judged
    assert len(learned) == 10
    assert found.corpus is not None
    assert ids_of_corpus(found) == list(IDS)
    assert found.notes == (
        "1 queries have no relevant document and were left out.",
        "4 training documents without a title were left out: training pairs a text with its title.",
    )
    place = ids(found, "test").index("q3")
    assert found.test.items([place], ["texts", "judgements"]) == {
        "texts": ["question 3"],
        "judgements": [(("d3", 2), ("d4", 0))],
    }


def ids_of_corpus(splits: Splits) -> list[str]:
    assert splits.corpus is not None
    return [splits.corpus.input.name(place) for place in range(len(splits.corpus))]


def test_training_documents_are_pairs_of_title_and_the_text_without_it() -> None:
    found = split().train
    texts, pairs = found.fields["texts"][:], found.fields["pairs"][:]
    assert [f"{title} {text}" in TEXTS for title, text in zip(pairs, texts, strict=True)] == [True] * len(found)
    assert found.inputs == ("texts",)


def test_a_title_is_put_before_a_text_that_does_not_begin_with_it() -> None:
    found = Collection(("a", "b", "c"), ("wings", "wings", ""), ("wings are long", "of birds", "none"))
    assert found.whole == ["wings are long", "wings of birds", "none"]


def test_the_parts_of_the_collection_are_kept() -> None:
    parts = {"test": {"q0": {"d0": 1}, "q1": {"d1": 1}}, "validation": {"q2": {"d2": 1}}, "train": {"q3": {"d3": 1}}}
    found = split(judged=parts)
    assert (ids(found, "test"), ids(found, "selection")) == (["q0", "q1"], ["q2"])
    assert not {"d0", "d1", "d2", "d3"} & {*ids(found, "calibration"), *ids(found, "train")}


def test_the_cut_is_seeded_and_known_by_its_fingerprint() -> None:
    one, again, other = split(), split(), split(seed=1)
    assert one.fingerprint == again.fingerprint != other.fingerprint
    graded = {"all": {**JUDGED, "q0": {"d0": 1, "d1": 0}}}
    assert split(judged=graded).fingerprint != one.fingerprint


def test_without_queries_documents_are_in_all_splits_and_the_corpus_is_whole() -> None:
    found = split(None, judged={})
    assert found.sizes() == {"train": 5, "calibration": 5, "selection": 5, "test": 5}
    assert ids_of_corpus(found) == list(IDS)
    assert "has no queries" in found.notes[0]
    assert split(None, judged={}, test=2, train=0).sizes()["test"] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"judged": {"all": {"q0": {"d0": 0}}}}, "no query has a document that is judged relevant"),
        ({"judged": {"all": {"q0": {"d99": 1}}}}, r"1 judgements are of .* query 'q0' and document 'd99'"),
        ({"judged": {"all": {"q99": {"d0": 1}}}}, r"1 judgements are of .* query 'q99'"),
        ({"calibration": 15}, r"14 documents .* have no judgement, and 15 calibration \+ 0 train"),
        ({"test": 9}, r"part 'all' has 5 queries .* 9 test and 1 selection"),
        ({"selection": 5}, "0 test and 5 selection"),
        ({"calibration": 0}, "calibration is 0"),
    ],
)
def test_what_cannot_be_cut_is_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        split(**options)


def test_judgements_of_what_is_not_there_are_skipped_where_asked() -> None:
    found = split(judged={"all": {**JUDGED, "q99": {"d0": 1}, "q0": {"d0": 1, "d99": 1}}}, unpaired="skip")
    assert "2 judgements of queries or documents that are not there were left out." in found.notes


@pytest.mark.parametrize(("names", "said"), [((), "no documents"), (("a", "a"), "1 ids .* 'a'"), (("", "b"), "no id")])
def test_documents_are_told_apart_by_their_ids(names: tuple[str, ...], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Collection(names, names, names).check("documents")
