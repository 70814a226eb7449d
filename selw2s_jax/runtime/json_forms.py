"""A check that JSON values which nothing vouches for, as a manifest that somebody edited, are what their reader takes.

A form is a type; a tuple of types; `[form]`, a list of such values; or a dict of forms by key, other keys being as they
may. A key with a question mark may be missing.
"""

import math
from typing import Any


def check(value: Any, form: Any) -> None:
    """Checks that a JSON value has a form.

    Raises:
        ValueError: it has not, or has a number that is not finite.
    """
    if isinstance(form, dict):
        if not isinstance(value, dict):
            raise ValueError(f"{value!r:.60} is no object")
        for key, inner in form.items():
            name = key.removesuffix("?")
            if name in value:
                check(value[name], inner)
            elif name == key:
                raise ValueError(f"{name} is missing")
    elif isinstance(form, list):
        if not isinstance(value, list):
            raise ValueError(f"{value!r:.60} is no list")
        for member in value:
            check(member, form[0])
    else:
        types = form if isinstance(form, tuple) else (form,)
        if type(value) not in types or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{value!r:.60} is no {types[0].__name__}")
