"""Factories by name, so that a config or a method can say which one it means."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any


class Registry(dict[str, Callable[..., Any]]):
    """Factories of one kind of function by name.

    Args:
        kind: what the factories make, for messages.
    """

    def __init__(self, kind: str):
        super().__init__()
        self._kind = kind

    def register(self, name: str):
        """Registers a factory, `factory(**options) -> function`; a decorator.

        Raises:
            ValueError: the name is taken.
        """

        def add(factory):
            if name in self:
                raise ValueError(f"a {self._kind} named {name!r} is registered already")
            self[name] = factory
            return factory

        return add

    def make(self, name: str, **options):
        """What the factory registered as `name` makes of the options.

        Raises:
            KeyError: nothing of that name.
        """
        if name not in self:
            raise KeyError(f"unknown {self._kind} {name!r}; registered: {', '.join(sorted(self))}")
        return self[name](**options)

    def make_from(self, name: str, options: Mapping[str, Any]):
        """`make` with those of the options that the factory names.

        Raises:
            KeyError: nothing of that name.
        """
        wanted = self.option_names(name)
        return self.make(name, **{key: value for key, value in options.items() if key in wanted})

    def option_names(self, name: str) -> set[str]:
        """The options that a factory names; none where nothing has that name."""
        return set(inspect.signature(self[name]).parameters) if name in self else set()
