"""Seeded damage and malice done to the files of a data set: other bytes, other kinds of file, odd values in rows."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import tarfile
from pathlib import Path
from typing import Any

from toys.mutations import ODD, damage, replace

TEXTS = (
    *("", " ", "x", "../../../etc/passwd", "/dev/zero", "a/" * 2500, "n" * 300 + ".png", "a\0.png", "\ud800", "\udce9"),
    *("0.png", "~nobody/x", "\ufeff", "☃" * 200, "9" * 5000, "-1", "nan", "{}", "[" * 3000, "'\"", "\x1b[2J", "\u202e"),
)
ENCODED = (
    b"",
    b"GIF89a",
    b"%!PS-Adobe-3.0 EPSF-3.0\n",
    b"\x89PNG\r\n\x1a\n",
    b"P6 99999 99999 255\n",
    b"II*\0" + b"\xff" * 40,
)
"""Beginnings of images that are none, or are of a size that nobody has memory for."""


def mutate_data(folder: Path, seed: int) -> str:
    """Change one thing in one file of `folder`; returns what was done."""
    draw = random.Random(seed)
    inner = {".json": _json, ".jsonl": _jsonl, ".csv": _csv, ".tsv": _csv, ".parquet": _table, ".tar": _tar}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    tables = [path for path in files if path.suffix in inner]
    file = draw.choice(tables if tables and draw.random() < 0.7 else files)
    name = file.relative_to(folder).as_posix()
    way = inner.get(file.suffix) if draw.random() < 0.7 else None
    return f"{name}: {way(file, draw) if way else _file(file, draw)}"


def _file(file: Path, draw: random.Random) -> str:
    """The file damaged, gone, or replaced by something that is none."""
    way = draw.choice(
        ("damaged", "damaged", "fifo", "link", "loop", "folder", "gone", "renamed", "empty", "other", "large")
    )
    if way == "damaged":
        return damage(file, draw)
    if way == "renamed":
        odd = draw.choice((b"caf\xe9", b"n" * 240, b".hidden", b"two\nlines", b"train", b"val"))
        os.rename(file, os.path.join(os.fsencode(file.parent), odd + os.fsencode(file.suffix)))
        return f"renamed {odd!r}"
    if way == "other":
        file.write_bytes(draw.choice(ENCODED))
        return way
    file.unlink()
    if way == "fifo":
        os.mkfifo(file)
    elif way == "link":
        file.symlink_to(draw.choice(("/dev/zero", "/etc/passwd", "/proc/self/mem", "/nowhere", "..")))
    elif way == "loop":
        file.symlink_to(file.name)
    elif way == "folder":
        file.mkdir()
    elif way == "empty":
        file.touch()
    elif way == "large":
        with file.open("wb") as written:
            written.truncate(1 << 40)
    return way


def _json(file: Path, draw: random.Random) -> str:
    if draw.random() < 0.1:
        file.write_text("[" * 10**5)
        return "nested too deep"
    content = json.loads(file.read_text())
    done = replace(content, draw)
    file.write_text(json.dumps(content))
    return done


def _jsonl(file: Path, draw: random.Random) -> str:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    done = replace(lines, draw)
    written = [json.dumps(line) for line in lines]
    if draw.random() < 0.1:
        written.append('{"image": ' + "[" * 10**5)
    file.write_text("\n".join(written))
    return done


def _csv(file: Path, draw: random.Random) -> str:
    mark = "\t" if file.suffix == ".tsv" else ","
    rows = list(csv.reader(io.StringIO(file.read_text("utf-8-sig")), delimiter=mark))
    row = draw.choice(rows)
    place, value = draw.randrange(len(row)), draw.choice(TEXTS)
    if draw.random() < 0.8:
        row[place] = value
    elif draw.random() < 0.5:
        del row[place]
    else:
        row.append(value)
    text = "\n".join(mark.join(cells) for cells in rows)
    file.write_bytes(text.encode("utf-8", draw.choice(("surrogatepass", "replace"))))
    return f"cell {place} = {value[:40]!a}"


def _table(file: Path, draw: random.Random) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(file)
    column = draw.choice(table.column_names)
    count = table.num_rows
    odd: Any = draw.choice(
        (
            [None] * count,
            [list(range(3))] * count,
            [[]] * count,
            ["a"] * count,
            [b"\xff\xfe"] * count,
            [10**12] * count,
            [0.5] * count,
            [{"bytes": 10**12, "path": "a"}] * count,
            [{"bytes": None, "path": draw.choice(("../../x.png", "/dev/zero", "n" * 300, "a\0b", "missing.png"))}]
            * count,
            [{"bytes": draw.choice(ENCODED), "path": None}] * count,
            [{"bytes": b"x", "path": 7}] * count,
            [{"raw": 5}] * count,
            [True, *[None] * (count - 1)],
            pa.array([2**64 - 1] * count, pa.uint64()),
            pa.array(["a\xe9".encode("latin-1")] * count, pa.binary()).cast(pa.string(), safe=False)
            if draw.random() < 0.2
            else ["☃"] * count,
        )
    )
    array = odd if isinstance(odd, pa.Array) else pa.array(odd)
    keep = table.schema.metadata if draw.random() < 0.3 else None
    table = table.set_column(table.column_names.index(column), column, array).replace_schema_metadata(keep)
    pq.write_table(table, file)
    return f"{column} = {array.type!s}{' with metadata' if keep else ''}"


def _tar(file: Path, draw: random.Random) -> str:
    with tarfile.open(file) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    place = draw.randrange(len(members))
    header, content = members[place]
    way = draw.choice(("content", "record", "type", "size", "name", "twice", "gone"))
    if way == "content":
        content = draw.choice(
            (*ENCODED, b"\xff\xfe", b"[" * 10**5, b"[1]", b'{"caption": 7}', b'{"caption": "\\ud800"}')
        )
    elif way == "record":
        header.name = header.name.rpartition(".")[0] + ".json"
        content = json.dumps({"caption": draw.choice(ODD)}).encode()
    elif way == "type":
        header.type = draw.choice(
            (tarfile.SYMTYPE, tarfile.GNUTYPE_SPARSE, tarfile.FIFOTYPE, tarfile.XHDTYPE, b"L", b"Z")
        )
        header.linkname = "/etc/passwd"
    elif way == "name":
        header.name = draw.choice(TEXTS[:9]) or "x"
    members[place] = (header, content)
    if way == "gone":
        del members[place]
    written = io.BytesIO()
    for member, data in members * (2 if way == "twice" else 1):
        declared = draw.choice((0, 1, 10**6, 1 << 40)) if way == "size" and member is header else len(data)
        member.size, member.pax_headers = declared, {}
        written.write(member.tobuf(tarfile.GNU_FORMAT, errors="surrogatepass"))
        written.write(data + bytes(-len(data) % 512))
    file.write_bytes(written.getvalue() + bytes(1024))
    return f"{way} of {header.name[:40]!a}"
