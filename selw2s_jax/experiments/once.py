"""Stages of an experiment that are made when they are first asked for, and are the same ones afterwards."""

import functools
import inspect
from collections.abc import Callable
from typing import Any


def once(make_stage: Callable[..., Any]) -> Callable[..., Any]:
    """A method of an experiment that makes a stage: each is kept in the experiment's `_stages`, by its arguments.

    One that is left out is its default, so that a stage is the same however it was asked for.
    """
    signature = inspect.signature(make_stage)

    @functools.wraps(make_stage)
    def ask(self, *name):
        bound = signature.bind(self, *name)
        bound.apply_defaults()
        key = make_stage.__name__, *bound.args[1:]
        if key not in self._stages:
            self._stages[key] = make_stage(*bound.args)
        return self._stages[key]

    return ask
