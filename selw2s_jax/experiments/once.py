"""Stages of an experiment that are made when they are first asked for, and are the same ones afterwards."""

import functools
from collections.abc import Callable
from typing import Any


def once(make_stage: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an experiment that makes a stage: each is kept in the experiment's `_stages`, by its arguments."""

    @functools.wraps(make_stage)
    def ask(self, *name):
        key = make_stage.__name__, *name
        if key not in self._stages:
            self._stages[key] = make_stage(self, *name)
        return self._stages[key]

    return ask
