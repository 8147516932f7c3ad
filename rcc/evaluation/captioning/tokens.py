"""Choose the tokenizer of captions: Stanford's PTBTokenizer where Java is there, else `penn_treebank` in Python."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rcc.errors import Problems, UserError, WorkError
from rcc.evaluation.captioning.penn_treebank import words

TOKENIZERS = ("auto", "java", "python")
PACKAGE = "pycocoevalcap"
LAST = "end"


@dataclass(frozen=True)
class CaptionTokenizer:
    """`tokenize` gives for each caption its words in lower case with a space between, '' where there are none."""

    name: str
    tokenize: Callable[[Sequence[str]], list[str]]


def load_tokenizer(choice: str = "auto") -> CaptionTokenizer:
    """The tokenizer `choice`: java, python, or auto, which is java where Java is installed.

    Raises:
        UserError: another choice, or java without Java.
    """
    problems = Problems("eval 'captioning'")
    problems.choice("tokenizer", choice, TOKENIZERS)
    java = shutil.which("java")
    problems.check(
        choice != "java" or java is not None,
        "tokenizer=java was asked for and no 'java' is on the PATH; install a Java runtime, or use tokenizer=python.",
    )
    problems.done()
    if choice == "python" or java is None:
        return CaptionTokenizer("ptb (python)", lambda captions: [" ".join(words(caption)) for caption in captions])
    return CaptionTokenizer("ptb (java)", lambda captions: _stanford(java, captions))


def package_directory() -> Path:
    """The directory of the package with the published scorers and their Java programs.

    Raises:
        UserError: it is not installed; the message has the command.
    """
    try:
        from pycocoevalcap.tokenizer import ptbtokenizer
    except ImportError as error:
        raise UserError(
            f"caption metrics need the package {PACKAGE}, which cannot be imported ({error}):"
            " `pip install 'rcc[captions]'` installs it."
        ) from error
    return Path(ptbtokenizer.__file__).parents[1]


def _stanford(java: str, captions: Sequence[str]) -> list[str]:
    """The result of pycocoevalcap's own wrapper, without its temporary file inside the installed package and without
    its count on stderr. The program leaves out the last lines if they are empty, so empty captions are not sent, and
    the last line says that all came back."""
    directory = package_directory() / "tokenizer"
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

    lines = [" ".join(caption.split()) for caption in captions]
    sent = [*filter(None, lines), LAST]
    program = ["-cp", str(directory / STANFORD_CORENLP_3_4_1_JAR), "edu.stanford.nlp.process.PTBTokenizer"]
    done = subprocess.run(
        [java, *program, "-preserveLines", "-lowerCase"], input="\n".join(sent).encode(), capture_output=True
    )
    found = done.stdout.decode().split("\n")
    if done.returncode or found[len(sent) - 1 :] not in ([LAST], [LAST, ""]):
        said = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise WorkError(
            f"Java's tokenizer gave {len(found)} lines for {len(sent)} and exit status {done.returncode}:"
            f" {' '.join(said)}. tokenizer=python needs no Java."
        )
    tokenized = iter(found)
    return [
        " ".join(token for token in next(tokenized).split() if token not in PUNCTUATIONS) if line else ""
        for line in lines
    ]
