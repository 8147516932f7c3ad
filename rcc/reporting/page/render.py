"""Render a page: templates and data to one HTML file that asks nothing of a network."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from rcc.reporting.formats import bytes_text, share_text

MARK = "<!-- rcc report -->"
"""What every page of ours begins with, so that nothing else is overwritten."""


def rendered(template: str, **content: Any) -> str:
    """A page by the name of its template. Everything that comes from files is escaped."""
    script = _text("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        _environment()
        .get_template(template)
        .render(mark=Markup(MARK), style=Markup(_text("page.css")), script=Markup(script), digest=digest, **content)
    )


@cache
def _environment() -> Environment:
    made = Environment(
        loader=FunctionLoader(_text),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["bytes"] = lambda nbytes: bytes_text(round(nbytes))
    made.filters["share"] = share_text
    return made


@cache
def _text(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")
