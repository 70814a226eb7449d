"""Pieces of one self-contained HTML page: no scripts, nothing from a network, all text escaped."""

import base64
import html
from collections.abc import Iterable, Mapping

# The system's colours follow the reader's choice of light or dark; pictures stay on white.
_STYLE = """
:root { color-scheme: light dark; }
body { max-width: 72rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif;
  background: Canvas; color: CanvasText; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; } h2 { font-size: 1.35rem; margin-top: 3rem; border-bottom: 1px solid GrayText; }
h3 { font-size: 1.1rem; margin-top: 2rem; }
details { margin: .4rem 0; } summary { cursor: pointer; font-weight: 600; }
small { font-size: .8em; white-space: nowrap; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid color-mix(in srgb, GrayText 45%, Canvas);
  text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid GrayText; vertical-align: bottom; }
.scroll th:first-child, .scroll td:first-child { position: sticky; left: 0; background: Canvas; }
.number { text-align: right; } td.number { white-space: nowrap; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .85rem; }
dt { font-weight: 600; max-width: 16rem; } dd { margin: 0; }
.note { font-size: .9rem; }
.warnings { border-left: 4px solid #D55E00; padding-left: 1rem; }
.warnings h2 { margin-top: 1.5rem; border: 0; } .warnings dl { font-size: .95rem; }
img { max-width: 100%; height: auto; background: white; border: 1px solid GrayText; }
figure { margin: 1.5rem 0; } figcaption { font-size: .9rem; }
pre { font-size: .75rem; white-space: pre-wrap; border: 1px solid GrayText; padding: .5rem; }
@media print { :root { font-size: 11px; color-scheme: light; } body { max-width: none; margin: 0; font-size: 11px; }
  .scroll { overflow: visible; } table { font-size: 8px; } th, td { padding: .1rem .25rem; }
  figure, tr, dd { break-inside: avoid; } h2, h3 { break-after: avoid; } }
"""


def heading(level: int, text: str, anchor: str = "") -> str:
    """A heading of that level, which links may name by its anchor."""
    identity = f' id="{html.escape(anchor)}"' if anchor else ""
    return f"<h{level}{identity}>{html.escape(text)}</h{level}>"


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def items(texts: Iterable[str]) -> str:
    """A list."""
    return "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in texts) + "</ul>"


def links(targets: Mapping[str, str]) -> str:
    """A list of links to headings of the page: text by anchor."""
    entries = (f'<li><a href="#{html.escape(a)}">{html.escape(text)}</a></li>' for a, text in targets.items())
    return f"<ul>{''.join(entries)}</ul>"


def definitions(meanings: Iterable[tuple[str, str]]) -> str:
    """Names and what is to be said of each."""
    entries = (f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in meanings)
    return f"<dl>{''.join(entries)}</dl>"


def picture(png: bytes, caption: str) -> str:
    """A PNG with a caption, which also describes it to those who cannot see it."""
    data = base64.b64encode(png).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


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


def document(title: str, parts: Iterable[str]) -> str:
    """The whole page, with its title as its first heading."""
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # Nothing but the page itself may be loaded or run, whatever the names in it are.
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"{heading(1, title)}\n{body}\n</body>\n</html>\n"
    )
