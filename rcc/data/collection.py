"""Divide a collection of documents, queries and judgements into splits for compressing and measuring an encoder.

Selection and test are queries, whose answers are looked for in the whole corpus. Calibration and training are documents
that nobody judged: what stages and trainers see says nothing of the answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from rcc.data.cutting import Cut, cut, without_duplicates
from rcc.data.fields import Named
from rcc.data.files.location import WHOLE, shown
from rcc.data.splits import Split, Splits
from rcc.errors import Problems, UserError

Judgements = Mapping[str, Mapping[str, int]]
"""Query to document to grade; above 0 is relevant."""
TESTED = ("test", "validation", "train", WHOLE)
SELECTED = ("validation", "train")
"""The parts whose queries are the test and the selection split, the likeliest first."""
CALIBRATION, HELD = 256, 3
"""Documents to calibrate by where nobody says how many; the share of queries that select, 1 in so many."""


@dataclass(frozen=True)
class Collection:
    """Documents, and perhaps queries with judgements.

    Attributes:
        ids, titles, texts: of each document; a title may be ''. A text may begin with its title or leave it out.
        queries: texts by id.
        judged: by part of the collection ('train', 'validation', 'test', or 'all').
    """

    ids: tuple[str, ...]
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    queries: Mapping[str, str] = field(default_factory=dict)
    judged: Mapping[str, Judgements] = field(default_factory=dict)

    def check(self, dataset: str) -> None:
        """Refuse a collection that cannot be searched.

        Raises:
            UserError: no document, an id twice, or an empty id.
        """
        problems = Problems(f"data '{dataset}'")
        problems.check(bool(self.ids), "there are no documents.")
        repeated = [each for each, count in Counter(self.ids).items() if count > 1]
        problems.check(not repeated, f"{len(repeated)} ids are those of several documents: {shown(repeated)}.")
        problems.check(all(self.ids), "a document has no id.")
        problems.done()

    @property
    def whole(self) -> list[str]:
        """Each document as it is searched: its title before its text, unless that begins with it."""
        pairs = zip(self.titles, self.texts, strict=True)
        return [text if text.startswith(title) else f"{title} {text}".strip() for title, text in pairs]


def search_splits(dataset: str, collection: Collection, how: Cut, unpaired: str = "refuse") -> Splits:
    """The splits of a collection, with its documents as their `corpus`.

    Calibration and training documents have no judgement; training ones with a title have it as the text that goes with
    theirs. A size that is None: of calibration 256, or half of what there is; of training all that is left; of
    selection all queries of the part for validation, or a third of those that are tested; of test all that is left.
    A collection without queries is divided by its documents alone.

    Args:
        unpaired: judgements of documents or queries that are not there: 'refuse' them, or 'skip' and count them.

    Raises:
        UserError: it has no document or no query with an answer, names one twice, or holds less than is asked for.
    """
    collection.check(dataset)
    whole = collection.whole
    corpus = Split("corpus", texts=Named(whole, collection.ids), titles=collection.titles)
    empty = [each for each, text in zip(collection.ids, whole, strict=True) if not text]
    notes = [f"{len(empty)} documents are empty: {shown(empty)}."] if empty else []
    if not collection.queries:
        return _by_documents(dataset, collection, corpus, how, notes)
    judged, told = _answerable(dataset, collection, unpaired)
    test, selection = _queries(dataset, collection, judged, how)
    known = {document for part in collection.judged.values() for found in part.values() for document in found}
    unknown = [place for place, each in enumerate(collection.ids) if each not in known and whole[place]]
    calibration, train, left = _documents(dataset, collection, np.array(unknown, dtype=np.int64), how)
    splits, duplicates = without_duplicates([test, selection, calibration, train])
    test, selection, calibration, train = splits
    return Splits(train, calibration, selection, test, notes=(*notes, *told, *left, *duplicates), corpus=corpus)


def _answerable(
    dataset: str, collection: Collection, unpaired: str
) -> tuple[dict[str, dict[str, dict[str, int]]], list[str]]:
    """The judgements of the queries that have a relevant document, by part, and notes on what was left out.

    Raises:
        UserError: documents or queries that are not there, unless they are skipped; or no query has an answer.
    """
    documents, parts = set(collection.ids), collection.judged.items()
    lost = [(query, each) for _, part in parts for query, found in part.items() for each in found
            if query not in collection.queries or each not in documents]  # fmt: skip
    if lost and unpaired == "refuse":
        raise UserError(
            f"data '{dataset}': {len(lost)} judgements are of queries or documents that are not there, as of query"
            f" '{lost[0][0]}' and document '{lost[0][1]}'. Put their files beside, or leave them out:"
            " data.unpaired=skip."
        )
    kept: dict[str, dict[str, dict[str, int]]] = {}
    for name, part in parts:
        of_part = {
            query: {each: grade for each, grade in found.items() if each in documents}
            for query, found in part.items()
            if query in collection.queries
        }
        answered = {query: found for query, found in of_part.items() if max(found.values(), default=0) > 0}
        if answered:
            kept[name] = answered
    if not kept:
        raise UserError(f"data '{dataset}': no query has a document that is judged relevant (a grade above 0).")
    asked = {query for part in kept.values() for query in part}
    notes = [f"{len(lost)} judgements of queries or documents that are not there were left out."] if lost else []
    without = len(collection.queries) - len(asked)
    return kept, notes + ([f"{without} queries have no relevant document and were left out."] if without else [])


def _queries(dataset: str, collection: Collection, judged: Mapping[str, Judgements], how: Cut) -> tuple[Split, Split]:
    """The test and the selection split."""
    tested = next(part for part in TESTED if part in judged)
    selected = next((part for part in SELECTED if part in judged and part != tested), tested)
    orders = {part: _order(len(judged[part]), how.seed) for part in (tested, selected)}
    there = len(judged[tested])
    if selected == tested:
        chosen = how.selection if how.selection is not None else max(1, there // HELD)
        left = there - chosen
    else:
        chosen = how.selection if how.selection is not None else len(judged[selected])
        left = there
    wanted = how.test if how.test is not None else left
    problems = Problems(f"data '{dataset}'")
    problems.check(
        1 <= wanted <= left and chosen <= len(judged[selected]),
        f"part '{tested}' has {there} queries with an answer, part '{selected}' has {len(judged[selected])};"
        f" {wanted} test and {chosen} selection are asked of them. Make one smaller.",
    )
    problems.done()
    first = orders[tested][:wanted]
    second = orders[selected][wanted : wanted + chosen] if selected == tested else orders[selected][:chosen]
    return (
        _query_split("test", collection, judged[tested], first),
        _query_split("selection", collection, judged[selected], second),
    )


def _query_split(name: str, collection: Collection, judged: Judgements, places: NDArray[np.int64]) -> Split:
    names = list(judged)
    ids = [names[place] for place in np.sort(places)]
    return Split(
        name,
        texts=Named([collection.queries[each] for each in ids], ids),
        judgements=[tuple(sorted(judged[each].items())) for each in ids],
    )


def _documents(
    dataset: str, collection: Collection, places: NDArray[np.int64], how: Cut
) -> tuple[Split, Split, list[str]]:
    """The calibration and the training split, of the documents at `places`, and notes on what was left out."""
    there = len(places)
    count = how.calibration if how.calibration is not None else min(CALIBRATION, max(1, there // 2))
    learned = how.train if how.train is not None else max(0, there - count)
    problems = Problems(f"data '{dataset}'")
    problems.check(
        count + learned <= there,
        f"{there} documents that are not empty have no judgement, and {count} calibration + {learned} train are asked"
        " of them; make one smaller. Documents that are judged are no calibration.",
    )
    problems.done()
    order = places[_order(there, how.seed)]
    whole = collection.whole

    def of(name: str, chosen: NDArray[np.int64]) -> Split:
        return Split(name, texts=Named([whole[place] for place in chosen], [collection.ids[place] for place in chosen]))

    train = order[count : count + learned]
    titled = [place for place in train if collection.titles[place] and _body(collection, place)]
    if not titled:
        return of("calibration", order[:count]), of("train", train), []
    paired = Split(
        "train",
        texts=Named([_body(collection, place) for place in titled], [collection.ids[place] for place in titled]),
        pairs=[collection.titles[place] for place in titled],
    )
    without = len(train) - len(titled)
    told = f"{without} training documents without a title were left out: training pairs a text with its title."
    return of("calibration", order[:count]), paired, [told] if without else []


def _body(collection: Collection, place: int) -> str:
    """The text of a document without its title."""
    return collection.texts[place].removeprefix(collection.titles[place]).strip()


def _by_documents(dataset: str, collection: Collection, corpus: Split, how: Cut, notes: Sequence[str]) -> Splits:
    """Documents in all four splits, for a collection without queries."""
    filled = np.flatnonzero([bool(text) for text in collection.whole])
    usual = max(1, len(filled) // 4)
    sizes = {role: min(CALIBRATION, usual) for role in ("calibration", "selection", "test")}
    given = {role: getattr(how, role) for role in sizes if getattr(how, role) is not None}
    documents = Split("documents", texts=corpus.fields["texts"].subset(filled))  # type: ignore[arg-type]
    found = cut(dataset, {"train": documents}, replace(how, **{**sizes, **given}))
    told = "it has no queries: what is searched can be indexed, and not measured by eval=search."
    return replace(found, notes=(*notes, told, *found.notes), corpus=corpus)


def _order(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(count)
