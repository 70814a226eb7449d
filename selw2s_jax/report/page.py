"""Pieces of one self-contained HTML page: no scripts, nothing from a network, all text escaped."""

import html
from collections.abc import Iterable, Mapping, Sequence

from selw2s_jax.analysis import formats, plotting
from selw2s_jax.report import glossary, svg

CONTENTS = "contents"  # the anchor of the list of links
_PIXELS = 4 / 3  # of a page, for a point of print
_SMALLEST = 0.75  # of its size, to which a picture shrinks before it scrolls: ten points are then ten pixels

# Light or dark as the reader's system is, pictures too; dark paper only on a screen.
_STYLE = """
:root { color-scheme: light dark; LIGHT }
@media screen and (prefers-color-scheme: dark) { :root { DARK } }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif;
  background: var(--paper); color: var(--ink); overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin-bottom: .5rem; }
.part { display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between; column-gap: 1rem;
  margin-top: 3rem; border-bottom: 1px solid var(--grey); }
h2 { font-size: 1.35rem; margin: 0 0 .3rem; }
h3 { font-size: 1.1rem; margin-top: 2rem; }
a { color: var(--blue); }
a:focus-visible, .scroll:focus-visible, summary:focus-visible { outline: 3px solid var(--orange); }
details { margin: .4rem 0; } summary { cursor: pointer; font-weight: 600; }
small { font-size: .8em; white-space: nowrap; }
nav { border: 1px solid var(--grid); border-radius: .4rem; padding: .2rem 1rem .6rem; margin: 1.5rem 0; }
nav h2 { margin: .5rem 0; border: 0; font-size: 1rem; }
nav ul { columns: 19rem; column-gap: 2rem; margin: 0; padding-left: 1.2rem; }
nav li { break-inside: avoid; padding: .1rem 0; }
.up { font-size: .8rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: separate; border-spacing: 0; font-size: .9rem; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--grid); text-align: left; vertical-align: top; }
tbody th { font-weight: 400; overflow-wrap: break-word; max-width: 24rem; }
thead th { border-bottom: 2px solid var(--grey); vertical-align: bottom; }
thead a { color: inherit; text-decoration: underline dotted; text-underline-offset: .2em; }
.scroll th:first-child { position: sticky; left: 0; background: var(--paper); border-right: 1px solid var(--grid); }
.number { text-align: right; } td.number { white-space: nowrap; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .2rem 1rem; font-size: .9rem; }
dt { font-weight: 600; max-width: 18rem; grid-column: 1; } dd { margin: 0; grid-column: 2; }
dd:target, details:target > summary, h2:target, h3:target {
  background: color-mix(in srgb, var(--orange) 25%, var(--paper)); }
.note { font-size: .9rem; }
.hint { display: none; font-size: .8rem; margin: .5rem 0 .2rem; color: var(--grey); }
.facts { font-size: .9rem; } .facts dd { font-variant-numeric: tabular-nums; }
.warnings { border-left: 4px solid var(--vermilion); padding-left: 1rem; }
.warnings .part { border: 0; margin-top: 2rem; } .warnings dl { font-size: .95rem; }
figure { margin: 1.5rem 0; } figcaption { font-size: .9rem; max-width: 60rem; }
svg { display: block; max-width: 100%; height: auto; fill: var(--ink); }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
svg text { font-family: "DejaVu Sans", Verdana, sans-serif; }
pre { font-size: .75rem; white-space: pre-wrap; border: 1px solid var(--grid); padding: .5rem; }
@media (max-width: 48rem) {
  body { margin: 1rem auto; } h1 { font-size: 1.35rem; } h2 { font-size: 1.2rem; } .part { margin-top: 2.2rem; }
  nav ul { columns: auto; max-height: 13rem; overflow-y: auto; } ul { padding-left: 1.2rem; }
  dl { display: block; } dt { max-width: none; margin-top: .5rem; } dd { margin-left: 1rem; }
  .hint { display: block; } .scroll tbody th { min-width: 6.5rem; max-width: 45vw; font-size: .8rem; }
  figure { margin: 1rem 0; }
}
@media print { :root { color-scheme: light; } body { max-width: none; margin: 0; font-size: 11px; }
  .scroll { overflow: visible; } table { font-size: 8px; } th, td { padding: .1rem .25rem; }
  svg { min-width: 0 !important; } .hint, .up { display: none; }
  figure, tr, dd { break-inside: avoid; } h2, h3 { break-after: avoid; } }
""".replace("LIGHT", svg.colors(is_dark=False)).replace("DARK", svg.colors(is_dark=True))


def heading(level: int, text: str, anchor: str = "") -> str:
    """A heading of that level, which links may name by its anchor; those of parts of the page lead back to them."""
    identity = f' id="{html.escape(anchor)}"' if anchor else ""
    found = f"<h{level}{identity}>{html.escape(text)}</h{level}>"
    if level > 2 or not anchor:
        return found
    return f'<div class="part">{found}<a class="up" href="#{CONTENTS}">contents</a></div>'


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def items(texts: Iterable[str]) -> str:
    """A list."""
    return "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in texts) + "</ul>"


def link(anchor: str, text: str) -> str:
    """A paragraph that leads to another part of the page."""
    return f'<p><a href="#{html.escape(anchor)}">{html.escape(text)}</a></p>'


def contents(targets: Mapping[str, Mapping[str, str]]) -> str:
    """Links to the parts of the page, by what they are called: of each part text by anchor.

    A part that there is once has the one link "", its own title.
    """

    def entry(title: str, links: Mapping[str, str]) -> str:
        # What runs are called may have commas.
        texts = "; ".join(
            f'<a href="#{html.escape(anchor)}">{html.escape(text or title)}</a>'
            for anchor, text in links.items()
        )
        about = "" if "" in links.values() else f"{html.escape(title)}: "
        return f"<li>{about}{texts}</li>"

    entries = (entry(*one) for one in targets.items())
    return (
        f'<nav id="{CONTENTS}" aria-labelledby="{CONTENTS}-title"><h2 id="{CONTENTS}-title">Contents</h2>'
        # It scrolls on small screens, also by keys.
        f'<ul tabindex="0" aria-labelledby="{CONTENTS}-title">' + "".join(entries) + "</ul></nav>"
    )


def definitions(meanings: Iterable[tuple[str, str]], kind: str = "") -> str:
    """Names and what is to be said of each."""
    entries = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in meanings)
    of_kind = f' class="{kind}"' if kind else ""
    return f"<dl{of_kind}>{''.join(entries)}</dl>"


def picture(drawn: plotting.Picture, caption: str, name: str) -> str:
    """A picture with a caption, which also describes it to those who cannot see it.

    Args:
        name: of its file, without the ending; no other picture of the page has it.
    """
    width, height = drawn.size
    text = html.escape(caption)
    style = f"width: {width * _PIXELS:.0f}px; min-width: {width * _PIXELS * _SMALLEST:.0f}px"
    return (
        '<figure><p class="hint">scroll sideways, or turn the screen</p>'
        f'<div class="scroll" role="region" tabindex="0" aria-label="Picture: {html.escape(name)}">'
        f'<svg role="img" aria-label="{text}" viewBox="0 0 {width:g} {height:g}" style="{style}">'
        f"{svg.inline(drawn, name)}</svg></div><figcaption>{text}</figcaption></figure>"
    )


def table(shown: formats.Table, terms: glossary.Glossary, *, max_rows: int | None = None) -> str:
    """A table; one of more rows than that stands behind a line that opens it.

    Args:
        terms: of the page, to which the meanings of its columns are added.
    """
    text = formats.to_html(shown, lambda column: terms.anchor(column, shown))
    is_long = max_rows is not None and len(shown.rows) > max_rows
    rows = f"{len(shown.rows)} row{'s' * (len(shown.rows) != 1)}"
    return folded(rows, [text]) if is_long else text


def listing(text: str) -> str:
    """Text as it is."""
    return f"<pre>{html.escape(text)}</pre>"


def warnings(parts: Iterable[str]) -> str:
    """Other pieces, set off as what to read first."""
    return f'<section class="warnings">{"".join(parts)}</section>'


def folded(summary: str, parts: Iterable[str], anchor: str = "") -> str:
    """Other pieces behind a line of text that opens them, which links may name by its anchor."""
    identity = f' id="{html.escape(anchor)}"' if anchor else ""
    return f"<details{identity}><summary>{html.escape(summary)}</summary>{''.join(parts)}</details>"


def document(title: str, first: Sequence[str], links: str, parts: Iterable[str]) -> str:
    """The whole page.

    Args:
        title: also its first heading.
        first: what stands below it.
        links: of `contents`.
    """
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Nothing but the page itself may be loaded or run, whatever the names in it are.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(title)} | selw2s_jax report</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<header>{heading(1, title)}\n{''.join(first)}</header>\n{links}\n<main>\n{body}\n</main>\n"
        "</body>\n</html>\n"
    )
