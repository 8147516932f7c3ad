"""Help is read from the config files, so that it cannot promise what they do not hold."""

from __future__ import annotations

from rcc import shipped
from rcc.composing.help import WIDTH, help_text

CONF = shipped.config_dir()


def test_every_group_with_its_choices_and_default_is_shown() -> None:
    lines: dict[str, str] = {}
    for line in help_text().splitlines():
        if line.startswith("  ") and not line.startswith("   "):
            lines[line.split()[0]] = line
        elif lines:
            lines[[*lines][-1]] += line
    defaults = shipped.default_choices(CONF, "train") | shipped.default_choices(CONF)
    for group in shipped.groups(CONF):
        for choice in shipped.choices(CONF, group):
            assert choice in lines[group]
        if defaults[group] is not None:
            assert f"[{defaults[group]}]" in lines[group]


def test_every_option_is_shown_with_its_default_and_an_explanation() -> None:
    lines = help_text().splitlines()
    for shown in ("gate.threshold=0.95", "dry_run=false", "resume=null", "export.dtype=float16", "seed=0"):
        told = [line for line in lines if line.strip().startswith(shown)]
        assert told, shown
        assert all(len(line.split(maxsplit=1)[1]) > 10 for line in told), told
    for key in [key for job in (None, *shipped.choices(CONF, "job")) for key in shipped.default_options(CONF, job)]:
        assert any(line.strip().startswith((f"{key}=", f"{key}.")) for line in lines), key


def test_help_is_grouped_and_fits_a_terminal() -> None:
    text = help_text()
    headings = [line.split(" (")[0] for line in text.splitlines() if line and not line.startswith(" ")]
    wanted = ["Run", "Stages", "Sweep", "Resume", "Evaluate", "Jobs", "Config groups", "Options of every job", "Flags"]
    assert [heading for heading in headings if heading in wanted] == wanted
    assert max(map(len, text.splitlines())) <= WIDTH
    for job in shipped.choices(CONF, "job"):
        assert f"job={job} " in text
