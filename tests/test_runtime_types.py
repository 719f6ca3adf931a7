"""Annotated shapes and dtypes are checked in these tests; nothing else would fail if they no longer were."""

import importlib
import inspect
import pkgutil
import typing

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from jaxtyping import TypeCheckError

import flame_jax
import n2f_jax
from flame_jax.rotations import euler_to_matrix
from n2f_jax.geometry.camera import Camera, project

RESTING = {"jaw": jnp.zeros(6), "neck": jnp.zeros(6), "eyes": jnp.zeros((2, 6)), "eyelids": jnp.zeros(2)}
CAMERA = Camera(rotation=jnp.eye(3), translation=jnp.ones(3), focal=jnp.ones(()), principal_point=jnp.ones(2))


@pytest.mark.parametrize(
    "call",
    [
        lambda: euler_to_matrix(jnp.zeros((5, 2))),
        lambda: euler_to_matrix(jnp.zeros((5, 3), jnp.int32)),
        lambda: jax.jit(euler_to_matrix)(jnp.zeros((5, 2))),
        lambda: flame_jax.FlameParams(
            shape=jnp.zeros(3), expression=jnp.zeros(3), **RESTING | {"jaw": jnp.zeros(3)}
        ),
        lambda: project(jnp.zeros((5, 2)), CAMERA),
        lambda: project(jnp.zeros((5, 3), jnp.int32), CAMERA),
        lambda: Camera(**vars(CAMERA) | {"rotation": jnp.zeros((2, 3))}),
    ],
)
def test_a_wrong_shape_or_dtype_raises(call):
    with pytest.raises(TypeCheckError):
        call()


def test_jax_puts_what_it_likes_into_a_pytree():
    """Shapes, axes and names are no arrays, and stand for them all the time."""
    shapes = jax.eval_shape(lambda: CAMERA)
    assert shapes.rotation.shape == (3, 3)
    assert jax.tree.map(lambda leaf: leaf.ndim, CAMERA).rotation == 2
    moved = jax.vmap(lambda camera, x: camera.focal * x, in_axes=(None, 0))(CAMERA, jnp.ones(4))
    assert moved.shape == (4,)


def _functions(module):
    for thing in vars(module).values():
        if getattr(thing, "__module__", None) != module.__name__:
            continue
        yield inspect.unwrap(thing) if callable(thing) else thing
        for member in vars(thing).values() if inspect.isclass(thing) else ():
            member = inspect.unwrap(getattr(member, "__func__", getattr(member, "fget", member)))
            if inspect.isfunction(member):
                yield member


@pytest.mark.parametrize("package", [flame_jax, pytest.param(n2f_jax, marks=pytest.mark.medium)])
def test_annotated_arrays_are_known_at_run_time(package):
    """An annotation whose names are not there (imported ``if TYPE_CHECKING``, or forgotten) is silently skipped."""
    unknown = []
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        try:
            module = importlib.import_module(found.name)
        except ModuleNotFoundError:  # PyTorch, say
            continue
        for thing in _functions(module):
            try:
                typing.get_type_hints(thing, vars(module))
            except NameError as error:
                if error.name in ("jax", "jnp", "np") or hasattr(jaxtyping, error.name):
                    unknown.append(f"{module.__name__}.{thing.__qualname__}: {error}")
            except TypeError:  # has no annotations
                continue
    assert not unknown
