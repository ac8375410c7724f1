"""The report as one HTML file that needs no network: figures, their library, pictures and style are inside."""

import base64
import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import vl_convert
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from results.answer import answer
from results.blocks import Block, Figures, Grid, Pictures, Section, Text
from results.chart import Spec
from results.charts import best_of_runs, figures
from results.facts import Facts
from results.sections import sections, status, together
from trainable import named
from trainable.dataset import picture
from trainable.errors import UserError

PICTURE = 96  # pixels of a picture's side
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Watching:
    """How a served page keeps up with its run."""

    state: str  # of the run as the page shows it; letters, digits, dots and hyphens
    seconds: int  # after which it asks for the state again


def page(
    runs: Sequence[Facts],
    following: Sequence[tuple[str, str]],
    watching: Watching | None = None,
    data: str | None = None,
) -> str:
    """The page of one or more runs. Images that are no longer where they were are shown by their names alone.

    Args:
        following: of each run, what is useful next, in words and as a command.
        watching: how the page keeps up; None: it stands alone and may ask nobody anything.
        data: what the images are of; None: what each run says, where this user has named that.
    """
    drawn: dict[str, Spec] = {}
    for number, facts in enumerate(runs):
        drawn |= {f"{name}-{number}": spec for name, spec in figures(facts).items()}
    if len(runs) > 1 and len({facts.objective for facts in runs}) == 1:
        drawn["together"] = best_of_runs(runs)
    library, script, refreshing = Markup(_library()), Markup(_file("page.js")), Markup("")
    if watching is not None:
        script_text = _file("refresh.js").replace("SECONDS", str(watching.seconds)).replace("STATE", watching.state)
        refreshing = Markup(script_text)
    notes, side_by_side = together(runs)
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(_file("page.html")).render(
        title=" and ".join(facts.name for facts in runs),
        written=f"convsearch, as of {time.strftime('%Y-%m-%d %H:%M')}",
        policy=_policy([library, script, refreshing], watching is not None),
        style=Markup(_file("page.css")),
        runs=[
            {
                "name": facts.name,
                "status": status(facts),
                "answer": answer(facts),
                "notes": facts.notes,
                "next": {"words": words, "command": command},
                "parts": [_shown(part, facts, data) for part in sections(facts)],
            }
            for facts, (words, command) in zip(runs, following, strict=True)
        ],
        together={"notes": notes, "table": _table(side_by_side)},
        drawn=drawn,
        figures=_json(drawn),
        library=library,
        script=script,
        refreshing=refreshing,
    )


def _shown(section: Section, facts: Facts, data: str | None) -> dict[str, Any]:
    return {"title": section.title, "blocks": [_block(block, facts, data) for block in section.blocks]}


def _block(block: Block, facts: Facts, data: str | None) -> dict[str, Any]:
    match block:
        case Text():
            return {"kind": "caption" if block.aside else "text", "text": block.text}
        case Grid():
            return {"kind": "table", "table": _table(block)}
        case Figures():
            tables = {name: _table(grid) for name, grid in block.tables.items()}
            return {"kind": "figures", "captions": block.captions, "title": block.title, "tables": tables}
        case Pictures():
            images, note = None, None
            try:  # the page may be sent on, and a run that is somebody else's could put any image of this disk on it
                images = named.chosen(facts.run, facts.record, {"data": data}, "data")["data"]
            except UserError as error:
                note = f"No pictures: {error}"
            return {
                "kind": "pictures",
                "note": note,
                "pictures": [
                    {
                        "source": None if images is None else _source(picture(images, mistake.image, PICTURE)),
                        "label": mistake.label,
                        "said": mistake.said,
                        "confidence": f"{100 * mistake.confidence:.0f} %",
                        "name": mistake.image,
                    }
                    for mistake in block.mistakes
                ],
            }


def _table(grid: Grid) -> dict[str, Any]:
    return vars(grid)


def _source(image: NDArray[np.uint8] | None) -> str | None:
    """The picture inside its address."""
    if image is None:
        return None
    content = io.BytesIO()
    Image.fromarray(image).save(content, "WEBP", quality=85)
    return f"data:image/webp;base64,{base64.b64encode(content.getvalue()).decode()}"


def _json(value: Any) -> Markup:
    """JSON that no text in it can end the script of."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def _policy(scripts: Sequence[Markup], refreshes: bool) -> str:
    """Nothing but the scripts of this file may run, and nothing may be fetched from anywhere."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts)
    asks = "; connect-src 'self'" if refreshes else ""
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:{asks}"


@cache  # two seconds
def _library() -> str:
    """Vega-Embed with Vega and Vega-Lite, as a function of the window."""
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle.replace("</script", "<\\/script")


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")
