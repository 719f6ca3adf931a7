"""A module's arrays as a plain nested dict with readable paths, and back.

``backbone/norm/scale`` is ``tree["backbone"]["norm"]["scale"]``; a list's members are named by their number:
``backbone/blocks/3/attention/query/kernel``. What is trained, frozen, saved or converted is such a dict; it
holds everything a module needs, constants (the rotary periods) included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
from flax import nnx

Tree = dict[str, Any]
M = TypeVar("M", bound=nnx.Module)


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """``{"a": {"b": x}}`` → ``{"a/b": x}``, in the tree's order."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}/{path}": leaf for path, leaf in flatten(value).items()})
        else:
            flat[name] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> Tree:
    """``{"a/b": x}`` → ``{"a": {"b": x}}``.

    Raises:
        ValueError: a path runs through another path's leaf.
    """
    tree: Tree = {}
    for path, leaf in flat.items():
        *parents, name = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
            if not isinstance(node, dict):
                raise ValueError(f"{path}: {parent!r} is an array, not a group")
        if name in node:
            raise ValueError(f"{path} is both an array and a group, or comes twice")
        node[name] = leaf
    return tree


def _variables(state: nnx.State[Any, Any]) -> dict[str, tuple[tuple[Any, ...], nnx.Variable[Any]]]:
    """Path → (NNX's own path, variable)."""
    return {"/".join(map(str, path)): (path, variable) for path, variable in nnx.to_flat_state(state)}


def to_dict(module: nnx.Module) -> Tree:
    """All arrays of a module as a nested dict. Of an abstract module: its ``jax.ShapeDtypeStruct``s."""
    return unflatten({name: v.get_value() for name, (_, v) in _variables(nnx.state(module)).items()})


def _check(expected: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    problems = [f"missing: {name} {tuple(expected[name].shape)}" for name in expected if name not in given]
    problems += [f"unknown: {name} {tuple(given[name].shape)}" for name in given if name not in expected]
    problems += [
        f"{name}: the network has shape {tuple(leaf.shape)}, given is {tuple(given[name].shape)}"
        for name, leaf in expected.items()
        if name in given and tuple(given[name].shape) != tuple(leaf.shape)
    ]
    if problems:
        shown = problems[:20] + ([f"… and {len(problems) - 20} more"] if len(problems) > 20 else [])
        raise ValueError("the parameters do not fit the network:\n  " + "\n  ".join(shown))


def from_dict(module: M, tree: Mapping[str, Any]) -> M:
    """A module like ``module`` (which may be abstract, from ``nnx.eval_shape``) that holds ``tree``'s arrays.

    Raises:
        ValueError: paths are missing or unknown, or a shape differs; all of them are listed.
    """
    return _bind(module)(tree)


def _bind(module: M) -> Callable[[Mapping[str, Any]], M]:
    """``tree`` → a module like ``module`` with its arrays. Holds none of the module's own."""
    graph, state = nnx.split(module)
    variables = {
        name: (path, variable.replace(jax.ShapeDtypeStruct(variable.shape, variable.dtype)))
        for name, (path, variable) in _variables(state).items()
    }

    def bind(tree: Mapping[str, Any]) -> M:
        flat = flatten(tree)
        _check({name: variable for name, (_, variable) in variables.items()}, flat)
        filled = [(path, variable.replace(flat[name])) for name, (path, variable) in variables.items()]
        return nnx.merge(graph, nnx.from_flat_state(filled))

    return bind


def functional(module: nnx.Module) -> tuple[Callable[..., Any], Tree]:
    """Splits a module into a pure function and its parameters.

    Returns:
        ``apply(params, *args, method=None, **kwargs)``, which calls the module (or the method of that name)
        with the arrays of ``params``, and the module's own ``params``. ``apply`` is meant to be traced by
        ``jit`` and ``grad``; it holds no arrays.
    """
    bind = _bind(module)

    def apply(params: Mapping[str, Any], *args: Any, method: str | None = None, **kwargs: Any) -> Any:
        bound = bind(params)
        return (bound if method is None else getattr(bound, method))(*args, **kwargs)

    return apply, to_dict(module)


def map_with_path(function: Callable[[str, Any], Any], tree: Mapping[str, Any]) -> Tree:
    """``function(path, leaf)`` on every leaf."""
    return unflatten({path: function(path, leaf) for path, leaf in flatten(tree).items()})


def count(tree: Mapping[str, Any]) -> int:
    """How many numbers a tree holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(dict(tree)))
