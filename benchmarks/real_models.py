"""Measures real pretrained models made small by `target_ratio` alone, beside the usual ways at the same bytes.

    OMP_NUM_THREADS=1 python benchmarks/real_models.py --data <folder of data sets> --work <folder>
    OMP_NUM_THREADS=1 python benchmarks/real_models.py --subjects lite0,minilm --ratios 8,12 --methods rcc

For each model and ratio: the product told the ratio and nothing else, rounding to nearest with steps of least squared
error, rounding with feedback (GPTQ), and global magnitude pruning with rounding to nearest; all of them stored in the
product's own artifact, whose directory is measured, loaded again from its files, and only then asked. × is against the
dense directory in float32. Intervals are of 95 %, paired where a change is shown. Each row is a line of rows.jsonl in
the work folder as soon as it is there, and is not made again while the code is the same.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from equal_bytes import ours
from equal_bytes.artifacts import coding, dense_size, target_of, written
from equal_bytes.baselines import gptq, magnitude_and_nearest, rounded_to_nearest
from equal_bytes.kept import keep, recall
from equal_bytes.rows import ROOT, Row, Rows, code_of
from equal_bytes.table import table
from subjects import SUBJECTS, known, subject_of
from subjects.subject import Answers, Subject

from rcc.artifact.size import directory_bytes
from rcc.cascade.bytes.budget import Target
from rcc.errors import Problems, RccError
from rcc.models.adapter import Adapter

OURS = "rcc"
BASELINES: dict[str, Callable[[Subject, Target], tuple[Adapter, str]]] = {
    "nearest": rounded_to_nearest,
    "gptq": gptq,
    "magnitude": magnitude_and_nearest,
}
BASELINE_FILES = ("baselines", "moments", "rounding")
METHODS = (OURS, *BASELINES)


def main() -> None:
    options = arguments()
    torch.set_num_threads(1)
    try:
        subjects = known(options.subjects)
        problems = Problems("--methods")
        for method in options.methods:
            problems.choice("method", method, METHODS)
        problems.done()
        options.work.mkdir(parents=True, exist_ok=True)
        print(f"Rows, data and dense answers are kept in {options.work}.", flush=True)
        tables = [measured(subject_of(name, options.data, options.work), options) for name in subjects]
    except RccError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    text = "\n".join(tables)
    (options.work / "real_models.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\nWritten: {options.work / 'real_models.md'}, {options.work / 'rows.jsonl'}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--subjects", type=names, default=list(SUBJECTS), help=f"of {', '.join(SUBJECTS)}; all")
    parser.add_argument("--ratios", type=numbers, help="these ratios alone; by default each model's own")
    parser.add_argument("--methods", type=names, default=list(METHODS), help=f"of {', '.join(METHODS)}; all")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the data sets")
    parser.add_argument("--work", type=Path, help="what is kept for a later run; by default a temporary folder")
    options = parser.parse_args()
    options.work = options.work or Path(tempfile.mkdtemp(prefix="real-models-"))
    return options


def names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(text: str) -> list[float]:
    return [float(number) for number in names(text)]


def measured(subject: Subject, options: argparse.Namespace) -> str:
    """The table of one subject; rows that are not there yet are made on the way."""
    rows = Rows(options.work / "rows.jsonl")
    dense, seconds = dense_answers(subject, options.work)
    nbytes = sum(dense_size(part, options.work) for part in subject.parts())
    found = []
    for ratio in options.ratios or sorted(subject.goals):
        for method in options.methods:
            row = Row(subject.name, ratio, method, code_of(*sources(subject, method)))
            if row.key not in rows.done:
                rows.add(made(subject, ratio, method, row.code, nbytes, dense, options.work))
            row = rows.done[row.key]
            found.append(row)
            print(f"{subject.name} {ratio:g} × {method}: {told(row)}", flush=True)
    figures = subject.figures(dense, dense)
    alone = {heading: f"{figures[name].value:{form}}" for name, (heading, form) in subject.figures_of.items()}
    alone |= {"bytes": f"{nbytes:,}", "processor s of its test": f"{seconds:.0f}"}
    return table(subject, found, alone, seconds)


def sources(subject: Subject, method: str) -> list[str]:
    """The files and folders of the project that a row depends on: those of the baselines change less often."""
    own = [f"benchmarks/{type(subject).__module__.replace('.', '/')}.py"]
    own += [f"benchmarks/equal_bytes/{name}.py" for name in ("artifacts", "figures")]
    if method == OURS:
        return [*own, "rcc", "benchmarks/equal_bytes/ours.py"]
    return [*own, "rcc/artifact", "rcc/layers", *(f"benchmarks/equal_bytes/{name}.py" for name in BASELINE_FILES)]


def made(subject: Subject, ratio: float, method: str, code: str, dense_nbytes: int, dense: Answers, work: Path) -> Row:
    """One model made small, written, loaded again and measured; the row says why where that failed."""
    scratch = Path(tempfile.mkdtemp(prefix=f"{subject.name}-", dir=work))
    seconds, nbytes, answers, codings, facts = 0.0, 0, [], [], {}
    try:
        for number, part in enumerate(subject.parts()):
            started = time.process_time()
            folder, facts = compressed(part, ratio, method, scratch / f"{number}")
            seconds += time.process_time() - started
            nbytes += directory_bytes(folder)
            again = part.reload(folder)
            answers.append(part.answers(again))
            codings.append(coding(again))
    except RccError as error:
        return Row(subject.name, ratio, method, code, problem=str(error), seconds=time.process_time() - started)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    figures = subject.figures(joined(answers), dense)
    facts |= {"coding": mean(codings), "figures": figures}
    return Row(subject.name, ratio, method, code, nbytes, dense_nbytes, seconds, **facts)


def compressed(subject: Subject, ratio: float, method: str, scratch: Path) -> tuple[Path, dict[str, Any]]:
    """The folder of one artifact, and facts of its row."""
    torch.manual_seed(0)
    if method == OURS:
        return ours.artifact_of(subject, ratio, scratch)
    model, note = BASELINES[method](subject, target_of(subject.dense(), ratio, scratch))
    return written(model, scratch / "artifact"), {"note": note}


def joined(answers: Sequence[Answers]) -> Answers:
    return {name: torch.cat([each[name] for each in answers]) for name in answers[0]}


def dense_answers(subject: Subject, work: Path) -> tuple[Answers, float]:
    """What the dense model says on the test split, and the processor seconds that took; kept for a later run."""
    path = work / f"{subject.name}_dense.safetensors"
    if not path.exists():
        answers, seconds = [], 0.0
        for part in subject.parts():
            model = part.dense()
            part.answers(model)  # data is decoded and texts are read once, which is no part of an evaluation
            started = time.process_time()
            answers.append(part.answers(model))
            seconds += time.process_time() - started
        keep(path, joined(answers), {"seconds": seconds})
    kept, facts = recall(path)
    return kept, facts["seconds"]


def told(row: Row) -> str:
    if not row.figures:
        return row.problem
    figures = ", ".join(f"{name} {figure.value:.4g}" for name, figure in row.figures.items())
    return f"{row.reached:.2f} ×, {figures}, {row.seconds:.0f} s{'; ' + row.problem if row.problem else ''}"


if __name__ == "__main__":
    main()
