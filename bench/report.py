"""The results as a table on the terminal, as JSON and as Markdown for the README."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rich.table import Table

from frame.output import screen

if TYPE_CHECKING:
    from pathlib import Path

    from bench.figures import Figure, Section, Target

console = screen(stderr=True)

FORMAT = 2  # of the JSON files


def _columns(record: dict[str, Any]) -> tuple[str, ...]:
    rate = "rows/s" if record["counted"] == "rows" else "MB/s"
    return ("", rate, "seconds", "peak memory", f"{record['subject']} is")


def show(section: Section) -> None:
    """Print the section as a table, and whether its targets are met."""
    table = Table(title=section.title, title_justify="left")
    record = _record(section)
    for place, column in enumerate(_columns(record)):
        table.add_column(column, justify="right" if place else "left", overflow="fold")
    for figure in record["figures"]:
        table.add_row(*_cells(record, figure))
    console.print(table)
    for target in record["targets"]:
        mark = "[green]✓[/]" if target["met"] else "[red]✗[/]"
        console.print(f"{mark} {_target(target)}")


def write(
    folder: Path, sections: list[Section], machine: dict[str, Any], versions: dict[str, str]
) -> None:
    """Write the JSON and the Markdown of the sections' subject into ``folder``.

    Sections that were not measured now stay as they are, each with the machine, the versions and
    the time of its own run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subject = sections[0].subject
    file = folder / f"{subject}.json"
    kept: dict[str, Any] = {}
    if file.exists():
        found = json.loads(file.read_text())
        if found.get("format") == FORMAT:
            kept = found["sections"]
    for section in sections:
        kept[section.name] = {**_record(section), "machine": machine, "versions": versions}
    order = sorted(kept, key=lambda name: (*_ORDER, name).index(name))
    text = {"format": FORMAT, "sections": {name: kept[name] for name in order}}
    file.write_text(json.dumps(text, indent=2, ensure_ascii=False) + "\n")
    (folder / f"{subject}.md").write_text(_markdown(text["sections"]))  # type: ignore[arg-type]


_ORDER = ("full", "tools", "dump", "restore", "memory", "incremental")


def _record(section: Section) -> dict[str, Any]:
    return {
        "title": section.title,
        "about": section.about,
        "subject": section.subject,
        "counted": section.counted,
        "servers": section.servers,
        "measured_at": section.measured_at,
        "load": {"before": round(section.load_before, 2), "after": round(section.load_after, 2)},
        "figures": [_figure(section, figure) for figure in section.figures],
        "targets": [_target_record(target) for target in section.targets],
    }


def _figure(section: Section, figure: Figure) -> dict[str, Any]:
    times = section.times_ours(figure)
    return {
        "name": figure.name,
        "title": figure.title,
        section.counted: figure.rows,
        "seconds": figure.seconds,
        "best_seconds": figure.best,
        f"{section.counted}_per_second": round(figure.rate) if figure.rate else None,
        "peak_mb": figure.peak_mb or None,
        f"{section.subject}_times_as_fast": round(times, 2) if times else None,
        "failed": figure.failed,
        **figure.detail,
    }


def _target_record(target: Target) -> dict[str, Any]:
    found = None if target.found is None else round(target.found, 2)
    return {
        "text": target.text,
        "wanted": f"{'at most' if target.at_most else 'at least'} {target.wanted:g}",
        "found": found,
        "met": target.met,
    }


def _target(target: dict[str, Any]) -> str:
    found = "not measured" if target["found"] is None else target["found"]
    return f"{target['text']}: {found} (wanted {target['wanted']})"


def _cells(record: dict[str, Any], figure: dict[str, Any]) -> tuple[str, ...]:
    if figure["failed"]:
        return (figure["title"], "-", "-", "-", "not measured")
    times = figure[f"{record['subject']}_times_as_fast"]
    rate = figure[f"{record['counted']}_per_second"]
    shown = "-"
    if rate:
        shown = f"{rate:,}" if record["counted"] == "rows" else f"{rate / 1e6:.1f}"
    return (
        figure["title"],
        shown,
        f"{figure['best_seconds']:.2f}" if figure["best_seconds"] else "-",
        f"{figure['peak_mb']:.0f} MB" if figure["peak_mb"] else "-",
        f"{times:.2f} times as fast" if times else "",
    )


def _markdown(sections: dict[str, dict[str, Any]]) -> str:
    lines = ["<!-- Written by `make bench`. -->", ""]
    for section in sections.values():
        machine, versions = section["machine"], section["versions"]
        lines += [f"### {section['title']}", "", section["about"], ""]
        columns = _columns(section)
        lines += [f"| {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) - 1)]
        for figure in section["figures"]:
            cells = (cell.replace("|", r"\|") for cell in _cells(section, figure))
            lines.append(f"| {' | '.join(cells)} |")
        lines += ["", "; ".join(_target(target) for target in section["targets"]) + "."]
        server = versions.get("postgresql")
        servers = f"; PostgreSQL {server} {section['servers']}" if server else ""
        lines += [
            "",
            f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']:.0f} GB,"
            f" {machine['system']}{servers} on this machine; best of"
            f" {max(len(figure['seconds']) for figure in section['figures'])};"
            f" load {section['load']['before']:.1f} before;"
            f" {section['measured_at'][:10]}, {versions['harmattan']}.",
            "",
        ]
    return "\n".join(lines)
