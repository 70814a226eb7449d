"""Pictures in the page: names within them are told apart, colours follow the page's, and text stays as it is."""

import re

from support import report_runs

from selw2s_jax.analysis import plotting
from selw2s_jax.report import page, svg

TEXT = '<b> id="p1" url(#x) #000000 &'


def draw() -> plotting.Picture:
    with plotting.default_style():
        figure = plotting.figure(width=3, height=2)
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=plotting.BLUE, marker="o")
        axes.barh([0], [1], color="#123456", hatch="//")
        axes.set_title(TEXT)
        return plotting.Picture(figure)


def test_two_pictures_share_no_name_and_refer_to_their_own():
    drawn = draw()
    bodies = {name: svg.inline(drawn, name) for name in ("a-1", "b-1")}
    for name, body in bodies.items():
        named = re.findall(r'<[^>]* id="([^"]*)"', body)
        used = set(re.findall(r'<[^>]*(?:url\(#|href="#)([\w-]+)', body))
        assert len(named) == len(set(named)) and used <= set(named)
        assert named and all(one.startswith(f"{name}-") for one in named)
    assert bodies["a-1"].replace("a-1-", "b-1-") == bodies["b-1"]


def test_colours_are_the_pages_and_text_is_as_it_was():
    whole = page.picture(draw(), "what it shows", "a-1")
    parsed = report_runs.Page(whole.encode())
    assert TEXT in parsed.text and "b" not in {tag for tag, _ in parsed.tags}
    assert "var(--blue)" in whole and plotting.BLUE.lower() not in whole and "#123456" in whole
    for is_dark in (False, True):
        assert set(re.findall(r"var\((--\w+)\)", whole)) <= set(
            re.findall(r"(--\w+):", svg.colors(is_dark=is_dark))
        )
    # Rules of a drawing would be rules of the whole page.
    assert not {"style", "metadata", "script"} & {tag for tag, _ in parsed.tags} and "http" not in whole
