"""What all pictures share: colours, and PNG files that are a function of what is drawn alone."""

import contextlib
import io
from typing import Any

# Of matplotlib, which is imported when something is drawn.
Axes = Any
Figure = Any

# Okabe and Ito's colours, which people with colour blindness tell apart.
BLACK, GREY, ORANGE, SKY_BLUE = "#000000", "#6E6E6E", "#E69F00", "#56B4E9"
GREEN, BLUE, VERMILION, PURPLE = "#009E73", "#0072B2", "#D55E00", "#CC79A7"


def default_style() -> contextlib.AbstractContextManager[None]:
    """Matplotlib's own settings, whatever a user's matplotlibrc holds, and names with a dollar sign as they are."""
    from matplotlib import style

    return style.context(["default", {"text.parse_math": False}])


def figure(*, width: float, height: float) -> Figure:
    """A figure of that many inches."""
    from matplotlib import figure as figure_lib

    return figure_lib.Figure(figsize=(width, height), dpi=130, layout="constrained")


def to_png(drawn: Figure) -> bytes:
    """A figure as PNG, without the date and the version of what drew it."""
    file = io.BytesIO()
    drawn.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
