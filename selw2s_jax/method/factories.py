"""Factories by name, so that a config or a method can say which one it means."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from selw2s_jax.method import registering

Factory = Callable[..., Any]

# Sections of a config that label rules and their parts take options from, unless they say otherwise.
RULE_SECTIONS = ("p_ik", "self_label", "selection", "graph")


class Registry(MutableMapping[str, Factory]):
    """Factories of one kind of function by name; a dict of them to its readers.

    Args:
        kind: what the factories make, for messages.
        sections: of a config, from which a factory takes its options unless it is registered with others: those
            of their keys that are names of its parameters.
        built_in: modules of this package that register factories here. They import the registry, so it imports
            them when it is first used: what is built in is there whichever module was imported first.
    """

    def __init__(self, kind: str, *, sections: Sequence[str] = (), built_in: Sequence[str] = ()):
        self.kind, self._built_in = kind, tuple(built_in)
        self._default_sections = tuple(sections)
        self._factories: dict[str, Factory] = {}
        self._sections: dict[str, tuple[str, ...]] = {}

    def _known(self) -> dict[str, Factory]:
        """All factories. A built-in module that is being imported, and so registers here, is not imported again."""
        for module in self._built_in:
            importlib.import_module(module)
        return self._factories

    def __getitem__(self, name: str) -> Factory:
        return self._known()[name]

    def __setitem__(self, name: str, factory: Factory) -> None:
        self._known()[name] = factory

    def __delitem__(self, name: str) -> None:
        del self._known()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def register(self, name: str, *, sections: Sequence[str] | None = None):
        """Registers a factory, `factory(**options) -> function`; a decorator.

        Args:
            sections: of a config, that its options come from; default the registry's.

        Raises:
            ValueError: the name is taken, as `registering.claim` says.
        """

        def add(factory: Factory) -> Factory:
            # A built-in module that registers while it is imported must not have the others imported.
            is_built_in = factory.__module__.startswith(f"{__package__}.")
            known = self._factories if is_built_in else self._known()
            registering.claim(self.kind, name, is_taken=name in known)
            known[name] = factory
            self._sections[name] = self._default_sections if sections is None else tuple(sections)
            return factory

        return add

    def make(self, name: str, **options):
        """What the factory registered as `name` makes of the options.

        Raises:
            KeyError: nothing of that name.
        """
        if name not in self:
            raise KeyError(f"unknown {self.kind} {name!r}; registered: {', '.join(sorted(self))}")
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
        return set(_parameters(self[name])) if name in self else set()

    def parameters(self, name: str) -> dict[str, inspect.Parameter]:
        """The same with what the signature says of each."""
        return _parameters(self[name]) if name in self else {}

    def required_names(self, name: str) -> set[str]:
        """Those of its options that have no default."""
        if name not in self:
            return set()
        parameters = _parameters(self[name])
        return {key for key, parameter in parameters.items() if parameter.default is parameter.empty}

    def sections(self, name: str) -> tuple[str, ...]:
        """The sections of a config that a factory's options come from."""
        self._known()  # of what is built in, its own also where nobody has imported its module yet
        return self._sections.get(name, self._default_sections)


def _parameters(factory: Factory) -> dict[str, inspect.Parameter]:
    """A factory's parameters by name, those that stand for any number of them apart."""
    found = inspect.signature(factory).parameters
    return {name: one for name, one in found.items() if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
