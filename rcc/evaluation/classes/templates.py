"""Prompts: a template, such as "a photo of the digit {}", filled with each class name."""

from __future__ import annotations

from collections.abc import Sequence

from rcc.errors import Problems


def prompts(class_names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every template filled with every class name: all templates of the first class, then of the second, ….

    Raises:
        UserError: no class, no template, or a template without exactly one `{}`.
    """
    problems = Problems("prompts")
    problems.check(len(class_names) > 0, "there are no class names.")
    problems.check(len(templates) > 0, "there are no templates; a plain one is 'a photo of a {}'.")
    for template in templates:
        problems.check(
            template.count("{}") == 1, f"the template '{template}' must hold '{{}}' once, for the class name."
        )
    problems.done()
    return [template.replace("{}", name) for name in class_names for template in templates]
