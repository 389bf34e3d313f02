"""Importing a library of seconds without those that it brings along and nobody asks for here."""

import gc
import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType


class _Later(ModuleType):
    """Stands for a module, which is loaded when something of it is asked for."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # by the import system
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)


@contextmanager
def lasting() -> Iterator[None]:
    """Import in this block: what is made stays, and nobody looks for garbage among it, now or later.

    An import makes objects by the hundred thousand: to look at them again and again takes a fifth of it.
    """
    collecting, loaded = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > loaded:
            gc.freeze()
        if collecting:
            gc.enable()


@contextmanager
def sparingly(*, absent: Sequence[str] = (), later: Sequence[str] = ()) -> Iterator[None]:
    """Import in this block: to what is imported `absent` are not installed, and `later` are loaded when first used.

    What is loaded already is as it was, and after the block everybody may import all of them. For a process that has
    no other thread yet: that one would find them absent, too.
    """
    placed: dict[str, ModuleType | None] = dict.fromkeys(absent)
    placed.update((name, _Later(name)) for name in later)
    placed = {name: module for name, module in placed.items() if name not in sys.modules}
    sys.modules.update(placed)  # type: ignore[arg-type]  # None: not to be found, says the language
    try:
        with lasting():
            yield
    finally:
        for name in placed:
            sys.modules.pop(name, None)
