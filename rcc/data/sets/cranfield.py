"""Load the Cranfield collection: 1,400 abstracts of aerodynamics, queries, and judgements of both (Cleverdon 1967).

The files are those of its TREC edition: cran.all.1400.xml, cran.qry.xml and qrels.txt. The numbers that the queries
carry are not those that the judgements go by: these count the queries from 1 in their order.
"""

from __future__ import annotations

from pathlib import Path

from rcc.data.collection import Collection, search_splits
from rcc.data.cutting import Cut
from rcc.data.files.judgements import read_judgements
from rcc.data.files.location import WHOLE, entries, located
from rcc.data.splits import Splits
from rcc.errors import Problems, UserError
from rcc.limits import read_bytes

DATASET = "cranfield"
DOCUMENTS, QUERIES, QRELS = "cran.all.1400.xml", "cran.qry.xml", "qrels.txt"
JOINS = POSITION, NUMBER = "position", "number"


def load_cranfield(
    path: str | None = None,
    train: int | None = None,
    calibration: int | None = None,
    selection: int | None = None,
    test: int | None = None,
    seed: int = 0,
    join: str = POSITION,
) -> Splits:
    """Queries for selection and test, abstracts without a judgement for calibration and training, and the corpus.

    Args:
        path: the folder of the three files.
        train, calibration: abstracts; selection, test: queries, see `search_splits`.
        join: judgements count the queries by 'position', which is right, or by the 'number' that a query carries, which
            shows what a wrong join costs.

    Raises:
        UserError: files that are missing or not laid out so, or hold less than is asked for.
    """
    how = Cut(train, calibration, selection, test, seed)
    problems = Problems("data")
    problems.choice("join", str(join), JOINS)
    problems.done()
    where = located(DATASET, path)
    missing = [name for name in (DOCUMENTS, QUERIES, QRELS) if not (where / name).is_file()]
    if missing:
        raise UserError(
            f"data '{DATASET}': '{where}' lacks {' and '.join(missing)}. Found: {entries(where)}. docs/data.md says"
            " where the collection is."
        )
    documents = [(_inside("docno", each), _inside("title", each), _inside("text", each))
                 for each in _blocks("doc", where / DOCUMENTS)]  # fmt: skip
    blocks = _blocks("top", where / QUERIES)
    numbers = [str(place) if join == POSITION else _inside("num", each) for place, each in enumerate(blocks, 1)]
    queries = dict(zip(numbers, (_inside("title", each) for each in blocks), strict=True))
    ids, titles, texts = zip(*documents, strict=True)
    collection = Collection(ids, titles, texts, queries, {WHOLE: read_judgements(DATASET, where / QRELS)})
    return search_splits(DATASET, collection, how, "refuse" if join == POSITION else "skip")


def _blocks(tag: str, file: Path) -> list[str]:
    """What stands between each <tag> and the next </tag>. The files are no XML: they have no root.

    Raises:
        UserError: nothing does, or the file cannot be read.
    """
    try:
        text = read_bytes(file).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data '{DATASET}': '{file}' cannot be read: {error}.") from error
    found = [part.partition(f"</{tag}>")[0] for part in text.split(f"<{tag}>")[1:]]
    if not found:
        raise UserError(f"data '{DATASET}': '{file}' holds no <{tag}>.")
    return found


def _inside(tag: str, text: str) -> str:
    """What stands in the first <tag> of a block, each run of spaces as one; '' where there is none."""
    return " ".join(text.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0].split())
