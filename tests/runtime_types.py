"""What ``conftest.py`` has every function and dataclass of the packages checked with: beartype, but for one thing."""

import contextlib
import functools
import sys
from collections.abc import Iterator

import beartype
import jaxtyping

# An int is a float to type checkers, and so here.
_beartype = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))


def check(function):
    """The function with its annotations checked; ``jaxtyping`` adds the shapes.

    A dataclass that is a pytree is not checked where JAX rebuilds it, which is through ``__init__`` and with
    whatever stands for arrays at that moment: shapes, axes, sharding, None (jaxtyping's issue 277). Where code of
    ours builds one, it is.
    """
    checked = _beartype(function)
    if function.__name__ != "__init__":
        return checked

    @functools.wraps(function)
    def unless_by_jax(*args, **kwargs):
        frame = sys._getframe(1)
        while frame.f_globals.get("__name__", "").startswith("jaxtyping."):
            frame = frame.f_back
        by_jax = frame.f_globals.get("__name__", "").startswith("jax.")
        return None if by_jax else checked(*args, **kwargs)

    return unless_by_jax


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """For calls that annotations forbid: who runs without the check, as users do, is told in other words."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
