"""Load documents to be searched: BEIR's layout with queries and judgements, or a CSV, TSV or JSONL file of documents.

    corpus.jsonl    {"_id": "d1", "title": "…", "text": "…"}   a line a document
    queries.jsonl   {"_id": "q1", "text": "…"}
    qrels/test.tsv  query-id  corpus-id  score                 and train.tsv, dev.tsv where there are such

Source of the layout: Thakur et al., "BEIR", arXiv:2104.08663.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rcc.data.collection import Collection, search_splits
from rcc.data.cutting import Cut
from rcc.data.files.judgements import read_judgements
from rcc.data.files.lines import FORMATS, read_records
from rcc.data.files.location import entries, located, official_part
from rcc.data.files.pairs import check_unpaired
from rcc.data.files.records import reason, taken
from rcc.data.splits import Splits
from rcc.errors import UserError

DATASET = "documents"
CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
IDS, TEXTS, TITLE = ("_id", "id", "docno"), ("text", "content", "body"), "title"
"""What the columns are called, the likeliest first."""


def load_documents(
    path: str | None = None,
    train: int | None = None,
    calibration: int | None = None,
    selection: int | None = None,
    test: int | None = None,
    seed: int = 0,
    unpaired: str = "refuse",
) -> Splits:
    """Queries for selection and test, documents without a judgement for calibration and training, and the corpus.

    Args:
        path: a folder of BEIR's layout, or a .jsonl, .csv or .tsv file of documents.
        train, calibration: documents; selection, test: queries, see `search_splits`.
        unpaired: judgements of what is not there: 'refuse' or 'skip' them.

    Raises:
        UserError: files that are missing or not laid out so, or hold less than is asked for.
    """
    how = Cut(train, calibration, selection, test, seed)
    check_unpaired(unpaired)
    where = located(DATASET, path)
    corpus = where if where.is_file() else where / CORPUS
    if not corpus.is_file() or corpus.suffix.lower() not in FORMATS:
        raise UserError(
            f"data '{DATASET}': '{where}' holds no {CORPUS}, and is no {', '.join(FORMATS)} file of documents. Found:"
            f" {entries(where)}. docs/data.md shows how the files are laid out."
        )
    ids, titles, texts = _documents(corpus)
    queries, judged = _questions(where) if where.is_dir() else ({}, {})
    return search_splits(DATASET, Collection(ids, titles, texts, queries, judged), how, unpaired)


def _documents(file: Path) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    rows = [(_named(record, IDS, file, number), _title(record, file, number), _named(record, TEXTS, file, number))
            for number, record in read_records(DATASET, file)]  # fmt: skip
    return tuple(zip(*rows, strict=True)) if rows else ((), (), ())  # type: ignore[return-value]


def _questions(folder: Path) -> tuple[dict[str, str], dict[str, Mapping[str, Mapping[str, int]]]]:
    """The queries by id and the judgements by part; none where there are no such files."""
    file, files = folder / QUERIES, sorted((folder / QRELS).glob("*.tsv"))
    if not file.is_file() and not files:
        return {}, {}
    if not file.is_file() or not files:
        raise UserError(
            f"data '{DATASET}': '{folder}' holds {QUERIES if file.is_file() else f'{QRELS}/*.tsv'} and not the other of"
            f" {QUERIES} and {QRELS}/*.tsv: queries are measured by judgements alone."
        )
    queries: dict[str, str] = {}
    for number, record in read_records(DATASET, file):
        name = _named(record, IDS, file, number)
        if queries.setdefault(name, text := _named(record, TEXTS, file, number)) != text:
            raise UserError(f"data '{DATASET}': line {number} of '{file}' names the query '{name}' a second time.")
    judged: dict[str, Mapping[str, Mapping[str, int]]] = {}
    for each in files:
        if (part := official_part(each.stem)) in judged:
            raise UserError(
                f"data '{DATASET}': '{each.name}' is of the part '{part}', and so is another of"
                f" {', '.join(other.name for other in files)}. Keep one file a part: train.tsv, dev.tsv, test.tsv."
            )
        judged[part] = read_judgements(DATASET, each)
    return queries, judged


def _named(record: Mapping[str, Any], names: Sequence[str], file: Path, number: int) -> str:
    """The text under the first of the names that the record has; a number there as its digits."""
    name = next((each for each in names if record.get(each) is not None), names[0])
    value = record.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(record, name, file, number)


def _title(record: Mapping[str, Any], file: Path, number: int) -> str:
    return _text(record, TITLE, file, number) if record.get(TITLE) is not None else ""


def _text(record: Mapping[str, Any], name: str, file: Path, number: int) -> str:
    try:
        return taken(record, name, str, "the line").strip()
    except ValueError as error:
        raise UserError(f"data '{DATASET}': line {number} of '{file}': {reason(error)}.") from error
