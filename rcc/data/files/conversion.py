"""Convert parquet and arrow files into the cache of the `datasets` library, up to a multiple of their own bytes.

A few kilobytes of parquet can hold a million rows that all name one entry of a dictionary, and nothing in the file
says what they come to. The library decodes a whole group of rows at once; here rows are decoded a few at a time and
counted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from datasets.builder import ArrowBasedBuilder, Key
from datasets.packaged_modules.arrow.arrow import Arrow
from datasets.packaged_modules.parquet.parquet import Parquet
from datasets.table import table_cast

from rcc.errors import UserError
from rcc.limits import how_to_raise, limits

ROWS = 64
"""Rows that are decoded at once: what an image or a text takes, so many times, may stand in memory."""
WRITTEN = 4096, 64 << 20
"""Rows, or bytes, that are written at once."""

Tables = Iterator[tuple[Any, pa.Table]]


class BoundedParquet(Parquet):
    """The library's reader of parquet files, a few rows at a time."""

    def _generate_tables(self, files: Sequence[str], row_groups_list: Sequence[Any]) -> Tables:
        wanted = self.info.features.arrow_schema
        for number, file in enumerate(files):
            with pq.ParquetFile(file) as rows:
                # A batch with a dictionary is as small as that until it is cast to the values.
                few = (table_cast(pa.Table.from_batches([batch]), wanted) for batch in rows.iter_batches(ROWS))
                for part, table in enumerate(_gathered(_counted(few, file))):
                    yield Key(number, part), table


class BoundedArrow(Arrow):
    """The library's reader of arrow files, which are read batch by batch as they are."""

    def _generate_tables(self, files: Sequence[str]) -> Tables:
        for number, file in enumerate(files):
            for part, table in enumerate(_counted((table for _, table in super()._generate_tables([file])), file)):
                yield Key(number, part), table


BUILDERS: Mapping[str, type[ArrowBasedBuilder]] = {"parquet": BoundedParquet, "arrow": BoundedArrow}


def converted(kind: str, files: Mapping[str, Sequence[str]]) -> dict[str, Dataset]:
    """The tables of `files`, by part, read by memory map from the library's cache; converted where it lacks them.

    Args:
        kind: 'parquet' or 'arrow'.

    Raises:
        UserError: rows of more bytes than their file justifies.
        Exception: of any kind, by the library, where a file is damaged or the cache cannot be written.
    """
    builder = BUILDERS[kind](data_files={part: list(names) for part, names in files.items()})
    try:
        builder.download_and_prepare()
    except Exception as error:  # the library's own, around ours
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise
    return {str(part): table for part, table in builder.as_dataset().items()}


def _counted(tables: Iterator[pa.Table], file: str) -> Iterator[pa.Table]:
    """The tables of a file, while they are no more bytes in all than `limits` allow.

    Raises:
        UserError: they are.
    """
    size = os.path.getsize(file)
    most, taken = limits.slack + limits.expansion_of_tables * size, 0
    for table in tables:
        taken += table.nbytes
        if taken > most:
            raise UserError(
                f"{file} has {size} bytes and its rows more than {most}, as rows do that all name one large value."
                f" {how_to_raise('expansion_of_tables')}"
            )
        yield table


def _gathered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The rows in fewer tables, since every table that is written becomes a batch of the cache."""
    held: list[pa.Table] = []
    rows = taken = 0
    for table in tables:
        held.append(table)
        rows, taken = rows + table.num_rows, taken + table.nbytes
        if rows >= WRITTEN[0] or taken >= WRITTEN[1]:
            yield pa.concat_tables(held)
            held, rows, taken = [], 0, 0
    if held:
        yield pa.concat_tables(held)
