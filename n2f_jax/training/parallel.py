"""How a run is laid out over devices: the batch split over all of them, parameters copied or split too.

One mesh axis, ``data``, over all devices of all processes. Every device draws its own samples and computes their
mean loss and gradient inside one ``jax.shard_map``; gradients are averaged. With ``fsdp`` each large parameter, its
optimiser state and its best copy live split over the devices; a step gathers a parameter where it is needed and
scatters its gradient's sum back (fully sharded data parallelism, Zhao et al. 2023; ZeRO-3, Rajbhandari et al. 2020).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

AXIS = "data"
# A parameter of fewer numbers is not worth splitting.
_LEAST_SPLIT = 4096


@dataclasses.dataclass(frozen=True)
class Parts:
    """Into how many parts a batch falls, and which one is meant.

    Sample j of part p is sample ``j·count + p`` of the batch: then every part has its share of the first samples,
    which show the front end's map.
    """

    count: int

    def indices(self, part: int | Array, batch_size: int) -> Int[Array, " B"]:
        """Numbers in the whole batch of the samples of one part."""
        size = batch_size // self.count
        return jnp.arange(size, dtype=jnp.int32) * self.count + part

    @classmethod
    def of(cls, layout: Layout, accumulation_steps: int, batch_size: int, num_first: int) -> Parts:
        """A part for every device and accumulation step.

        Raises:
            ValueError: batch or first samples do not divide evenly.
        """
        parts = cls(layout.count * accumulation_steps)
        if not parts.fits(batch_size, num_first):
            raise ValueError(
                f"batch_size {batch_size} (of which data.front_end_share makes {num_first} front-end samples) must "
                f"divide by {layout.count} devices × parallel.accumulation_steps {accumulation_steps}"
            )
        return parts

    def fits(self, batch_size: int, num_first: int) -> bool:
        """Whether batch and first samples divide evenly."""
        return batch_size % self.count == 0 and num_first % self.count == 0


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh of devices, and how parameters lie on it.

    Args:
        mesh: one axis, ``data``.
        fsdp: split large parameters over it.
    """

    mesh: Mesh
    fsdp: bool = False

    @classmethod
    def of_devices(cls, count: int = 0, fsdp: bool = False) -> Layout:
        """Over the first ``count`` devices, or all of them for 0.

        Raises:
            ValueError: there are not so many.
        """
        devices = jax.devices()
        if count > len(devices):
            raise ValueError(f"{count} devices are asked for and there are {len(devices)}")
        chosen = np.array(devices[: count or len(devices)])
        return cls(Mesh(chosen, (AXIS,), axis_types=(AxisType.Auto,)), fsdp)

    @property
    def count(self) -> int:
        """Devices."""
        return self.mesh.size

    def split_axis(self, shape: tuple[int, ...]) -> int | None:
        """Which axis of a parameter of this shape is split: the longest that divides evenly; None: it is copied."""
        if not self.fsdp or self.count == 1 or int(np.prod(shape)) < _LEAST_SPLIT:
            return None
        axes = [axis for axis, length in enumerate(shape) if length % self.count == 0]
        return max(axes, key=lambda axis: shape[axis]) if axes else None

    def spec(self, shape: tuple[int, ...]) -> PartitionSpec:
        """Of a parameter of this shape."""
        axis = self.split_axis(shape)
        return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS)

    def split(self, flat: Mapping[str, Array]) -> tuple[dict[str, int | None], dict[str, PartitionSpec]]:
        """Path → ``split_axis`` and path → ``spec`` of flattened parameters."""
        shapes = {path: tuple(leaf.shape) for path, leaf in flat.items()}
        axes = {path: self.split_axis(shape) for path, shape in shapes.items()}
        return axes, {path: self.spec(shape) for path, shape in shapes.items()}

    def shardings(self, tree: Any, shapes: Mapping[str, tuple[int, ...]]) -> Any:
        """Of every leaf: a parameter's where a key of its path names one and the shape is that one's, else a copy on
        every device. Serves parameters, optimiser states and best copies alike.

        Args:
            tree: of arrays or their shapes.
            shapes: path → shape of every parameter that may be split.
        """

        def one(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            names = [str(getattr(key, "key", getattr(key, "name", ""))) for key in path]
            candidates = {*names, *("/".join(names[i:]) for i in range(len(names)))}
            named = any(shapes.get(name) == tuple(leaf.shape) for name in candidates)
            return NamedSharding(self.mesh, self.spec(tuple(leaf.shape)) if named else PartitionSpec())

        return jax.tree_util.tree_map_with_path(one, tree)

    def place(self, tree: Any, shapes: Mapping[str, tuple[int, ...]] | None = None) -> Any:
        """Arrays that every process holds alike, laid out; copies, so that donating them harms nobody."""
        shardings = self.shardings(tree, shapes or {})
        return jax.tree.map(
            lambda leaf, sharding: jax.device_put(np.asarray(leaf), sharding, may_alias=False),
            tree,
            shardings,
        )

    def whole(self, tree: Any) -> Any:
        """Every leaf complete on every device (and so readable by every process)."""
        if self.count == 1 or not self.fsdp:
            return tree
        return jax.jit(lambda x: x, out_shardings=NamedSharding(self.mesh, PartitionSpec()))(tree)

    def map(self, function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
        """``function`` on every device with its part of what is split (``jax.shard_map``)."""
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False
        )


def gather(parts: Mapping[str, Array], axes: Mapping[str, int | None]) -> dict[str, Array]:
    """Inside ``Layout.map``: parameters complete again. Its transpose sums gradients up, each device its part."""
    return {
        path: part if axes[path] is None else jax.lax.all_gather(part, AXIS, axis=axes[path], tiled=True)
        for path, part in parts.items()
    }


def mean_gradients(
    gradients: Mapping[str, Array], axes: Mapping[str, int | None], count: int
) -> dict[str, Array]:
    """Inside ``Layout.map``: means over the devices; what ``gather`` has summed already is only divided."""
    return {
        path: jax.lax.pmean(gradient, AXIS) if axes[path] is None else gradient / count
        for path, gradient in gradients.items()
    }


def on_host(tree: Any) -> Any:
    """Every leaf complete as a NumPy array on every process; all must ask at the same time."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    from jax.experimental import multihost_utils

    return multihost_utils.process_allgather(tree, tiled=True)


def is_main_process() -> bool:
    """Whether this process writes logs and results."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether the flag is set on any process; all must ask at the same time."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.asarray(multihost_utils.process_allgather(np.asarray(flag))).any())
