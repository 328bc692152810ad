"""A compiled program as HTML: the user's lines beside the steps that they went into.

The page needs nothing from elsewhere: no script, no style sheet, no font. Lines are read by
`linecache`, which knows the cells of notebooks too; where a source is gone its place is named.
"""

import linecache
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape

from fgrad.api.execution import Runnable
from fgrad.api.inspection import StepInfo, loops_of, schedule_of
from fgrad.core.ir import Eqn, equation_texts, subjaxprs
from fgrad.core.where import Where

_AROUND = 1  # lines shown before and after one that was used
_TURN = 137.508  # degrees between the hues of two steps: neighbours differ, and no two are alike

_STYLE = """
.fgrad{font:13px monospace;display:flex;gap:1em;align-items:flex-start}
.fgrad>div{flex:1;min-width:0;overflow-x:auto}
.fgrad pre{margin:0;white-space:pre}
.fgrad .n{color:#888}
.fgrad a,.fgrad .s{border-radius:3px;padding:0 .3em;color:#000;text-decoration:none}
.fgrad details{margin:.3em 0}
.fgrad .i{margin-left:1.5em}
"""


def page(program: Runnable, name: str) -> str:
    """The program of a function as HTML.

    Args:
        program: What runs.
        name: Of the function.
    """
    steps, loops = schedule_of(program), loops_of(program)
    # Two pages in one notebook must not share anchors.
    prefix = f"fgrad{id(program):x}-"
    kernels = sum(s.kind == "kernel" for s in steps)
    head = f"<div><b>{escape(name)}</b>: {len(steps)} steps, {kernels} of them kernels</div>"
    left = _source(steps, prefix)
    named = equation_texts(program.jaxpr)
    pairs = enumerate(zip(steps, loops, strict=True))
    right = "".join(_step(i, *pair, named, prefix) for i, pair in pairs)
    return (
        f'<style>{_STYLE}</style>{head}<div class="fgrad"><div>{left}</div><div>{right}</div></div>'
    )


def _colour(step: int) -> str:
    return f"background:hsl({step * _TURN % 360:.0f},70%,82%)"


def _places(eqns: Iterable[Eqn]) -> Iterator[Where]:
    """Where equations come from, and those of the programs in them, such as bodies of loops."""
    for eqn in eqns:
        if eqn.source is not None:
            yield eqn.source
        for program in subjaxprs(eqn.params):
            yield from _places(program.eqns)


def _source(steps: Sequence[StepInfo], prefix: str) -> str:
    """The lines of the user, file by file, each with the numbers of its steps."""
    used: dict[str, dict[int, dict[int, None]]] = {}
    for i, step in enumerate(steps):
        for place in _places(step.equations):
            used.setdefault(place.file, {}).setdefault(place.line, {})[i] = None
    return "".join(_file(file, lines, prefix) for file, lines in used.items())


def _file(file: str, used: dict[int, dict[int, None]], prefix: str) -> str:
    texts = linecache.getlines(file)
    rows = [f"<b>{escape(file)}</b>"]
    last = 0
    for number in _shown(used, len(texts)):
        if last and number > last + 1:
            rows.append('<span class="n">   ⋯</span>')
        last = number
        missing = '<span class="n">(the source is not available)</span>'
        text = escape(texts[number - 1].rstrip("\n")) if number <= len(texts) else missing
        chips = " ".join(
            f'<a href="#{prefix}{i}" style="{_colour(i)}">{i}</a>' for i in used.get(number, ())
        )
        rows.append(f'<span class="n">{number:4} </span>{text}  {chips}'.rstrip())
    return f"<pre>{chr(10).join(rows)}</pre>"


def _shown(used: Iterable[int], count: int) -> list[int]:
    """The lines used and those around them that exist."""
    found = set(used)
    for number in used:
        around = range(number - _AROUND, number + _AROUND + 1)
        found.update(n for n in around if 1 <= n <= count)
    return sorted(found)


def _step(number: int, step: StepInfo, loops: str, named: Mapping[Eqn, str], prefix: str) -> str:
    head = (
        f'<span class="s" style="{_colour(number)}">{number}</span> {step.kind} '
        f"<b>{escape(step.name)}</b> → {escape(', '.join(step.buffers)) or 'nothing'} "
        f'<span class="n">{step.flops:,} operations, {step.bytes:,} bytes</span>'
    )
    inside = "".join(
        f"<pre>{escape(named.get(e) or repr(e))}</pre>"
        f'<pre class="n">    at {escape(_at(e.source))}</pre>'
        for e in step.equations
    )
    if loops:
        inside += f"<details><summary>loops</summary><pre>{escape(loops)}</pre></details>"
    # A link to what is folded unfolds it, a link to the fold would not.
    return (
        f'<details><summary>{head}</summary><div class="i" id="{prefix}{number}">{inside}</div>'
        f"</details>"
    )


def _at(place: Where | None) -> str:
    return "a place that is not known" if place is None else str(place)
