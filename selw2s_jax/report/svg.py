"""A picture in the page: its SVG without what a page has no use for, in colours that follow the page's."""

import re

from selw2s_jax.analysis import plotting

# By colour of a drawing, what it is called in the page, and what it is on dark paper, where it has to be brighter to
# have the same contrast of 3 to 1 and more.
_COLORS = {
    plotting.BLACK: ("ink", "#F0F0F0"),
    plotting.PAPER: ("paper", "#121212"),
    plotting.GRID: ("grid", "#6A6A6A"),
    plotting.GREY: ("grey", "#A3A3A3"),
    plotting.ORANGE: ("orange", "#F0AE1F"),
    plotting.SKY_BLUE: ("sky", "#7CC8F2"),
    plotting.GREEN: ("green", "#2DBD93"),
    plotting.BLUE: ("blue", "#4AA3E0"),
    plotting.VERMILION: ("vermilion", "#F08040"),
    plotting.PURPLE: ("purple", "#DD9BC0"),
    plotting.BROWN: ("brown", "#C9A94F"),
    plotting.OLIVE: ("olive", "#9CBF3B"),
    plotting.TEAL: ("teal", "#45B3AC"),
    plotting.PLUM: ("plum", "#C08AB4"),
    plotting.MAROON: ("maroon", "#E08F70"),
}
_VARIABLES = {light.lower(): f"var(--{name})" for light, (name, _) in _COLORS.items()}
_HEAD = re.compile(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", re.DOTALL)
_TAG = re.compile(r"<[^>]+>")  # text of anyone is escaped, and stands between them
_REFERENCE = re.compile(r'(?:url\(#|href="#)([\w-]+)')
_ID = re.compile(r' id="([^"]*)"')
_FONT = re.compile(r" font-family: [^;\"]*;?")
_NO_TURN = re.compile(r' transform="rotate\(-?0 [^)]*\)"')
_DIGITS = re.compile(r"(\.\d{3})\d+")
_COLOR = re.compile("#[0-9a-f]{6}")


def colors(*, is_dark: bool) -> str:
    """The values of the colours, as CSS."""
    return " ".join(f"--{name}: {dark if is_dark else light};" for light, (name, dark) in _COLORS.items())


def inline(picture: plotting.Picture, name: str) -> str:
    """What stands between `<svg>` and `</svg>` of a picture, with the view box as it is.

    Args:
        name: of the picture, which no other of the page has: names within it begin with it.
    """
    whole = _HEAD.sub("", picture.svg.decode(errors="replace"))
    body = whole[whole.index(">", whole.index("<svg")) + 1 : whole.rindex("</svg>")]
    used = {one for tag in _TAG.findall(body) for one in _REFERENCE.findall(tag)}

    def identity(match: re.Match[str]) -> str:
        return f' id="{name}-{match[1]}"' if match[1] in used else ""

    def clean(match: re.Match[str]) -> str:
        tag = _ID.sub(identity, match[0].replace("\n", " ").replace("xlink:", ""))
        tag = _REFERENCE.sub(lambda found: found[0].replace("#", f"#{name}-"), tag)
        tag = _FONT.sub("", _NO_TURN.sub("", tag)) if tag.startswith("<text") else tag
        return _COLOR.sub(lambda color: _VARIABLES.get(color[0], color[0]), _DIGITS.sub(r"\1", tag))

    return re.sub(r">\s+<", "><", _TAG.sub(clean, body)).strip()
