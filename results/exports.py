"""A report's facts for programs and for other documents: JSON, CSV, Markdown."""

import math
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

import pandas as pd

from results.answer import answer
from results.audit import sentences
from results.blocks import Block, Figures, Grid, Pictures, Text
from results.facts import Facts
from results.sections import sections, status, together

FORMAT = 1  # of the JSON


def as_json(runs: Sequence[Facts], following: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Everything that the page says, but for pictures. What is not known is null.

    Args:
        following: as for `page`.
    """
    found = [{**_run(facts), "next": command} for facts, (_, command) in zip(runs, following, strict=True)]
    return {"format": FORMAT, "runs": found}


def as_csv(runs: Sequence[Facts]) -> str:
    """The leaderboards, a row a trial, with the run and one standard error of the accuracy."""
    tables = []
    for facts in runs:
        table = facts.board.copy()
        errors = [facts.error(value) if value == value else math.nan for value in table["valid_accuracy"]]
        table.insert(list(table.columns).index("valid_accuracy") + 1, "valid_accuracy_error", errors)
        table.insert(0, "run", facts.name)
        tables.append(table)
    return str(pd.concat(tables).to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def as_markdown(runs: Sequence[Facts], following: Sequence[tuple[str, str]]) -> str:
    """The page's text and tables.

    Args:
        following: as for `page`.
    """
    lines = [f"# {_escaped(' and '.join(facts.name for facts in runs))}", ""]
    if len(runs) > 1:
        notes, table = together(runs)
        lines += [*(f"{_escaped(note)}\n" for note in notes), *_table(table)]
    for facts, (words, command) in zip(runs, following, strict=True):
        if len(runs) > 1:
            lines += [f"# {_escaped(facts.name)}", ""]
        said = status(facts)
        lines += [f"{said}\n"] if said else []
        lines += [*(f"- {_escaped(sentence)}" for sentence in answer(facts)), ""]
        lines += [f"{_escaped(note)}\n" for note in facts.notes]
        lines += [f"{words}\n", f"    {command}", ""]
        for section in sections(facts):
            blocks = [block for block in section.blocks if _block(block)]
            if blocks:
                lines += [f"## {_escaped(section.title)}", ""]
            for block in blocks:
                lines += _block(block)
    return "\n".join(lines).rstrip() + "\n"


def _run(facts: Facts) -> dict[str, Any]:
    record = facts.record
    return {
        "name": facts.name,
        "status": status(facts),
        "answer": answer(facts),
        "notes": facts.notes,
        "objective": facts.objective,
        "epochs": facts.epochs,
        "states": facts.states,
        "failures": facts.reasons,
        "images_ranked_on": facts.images,
        "best_of": facts.compared,
        "leaderboard": _plain(facts.board.astype(object).to_dict("records")),
        "curves": _plain(facts.curves),
        "stopped_after": facts.rungs,
        "improvements": _plain(facts.improvements),
        "epochs_spent": facts.spent,
        "audit": None if facts.audit is None else {**_plain(facts.audit), "sentences": sentences(facts.audit)},
        "effects": _plain(facts.effects),
        "configurations": _plain(facts.configurations),
        "confirmation": facts.confirmation,
        "ensemble": facts.ensemble,
        "predictions": _plain(facts.predictions),
        "balance": [{"class": name, "part": part, "images": images} for name, part, images in facts.balance],
        "timeline": _plain(facts.timeline),
        "use": _plain(facts.use),
        # A space of the user's own may have an infinite choice.
        **{name: _plain(record[name]) for name in ("arguments", "space", "data", "seed", "created", "sessions")},
    }


def _plain(value: Any) -> Any:
    """As JSON has it: what is not a number is null."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "item"):  # numpy's
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _block(block: Block) -> list[str]:
    """A block's lines: of figures their tables, of pictures none."""
    match block:
        case Text():
            return [_escaped(block.text), ""]
        case Grid():
            return _table(block)
        case Figures():
            return [
                line
                for name, grid in block.tables.items()
                for line in (f"{_escaped(block.captions[name])}\n", *_table(grid))
            ]
        case Pictures():
            return []


def _table(grid: Grid) -> list[str]:
    marks = ["--:" if number in grid.numbers else ":--" for number in range(len(grid.columns))]
    head, *rows = ([_cell(cell) for cell in row] for row in (grid.columns, *grid.rows, *grid.folded))
    return [*(f"| {' | '.join(row)} |" for row in (head, marks, *rows)), ""]


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|")


def _escaped(text: str) -> str:
    """Text in which nothing is taken for HTML or a mark: names of files and classes are anybody's."""
    for mark in "\\`*_<>[]":
        text = text.replace(mark, f"\\{mark}")
    return text.replace("\n", " ")
