"""Arrays, images and JSON into one binary glTF 2.0 file, by pygltflib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import n2f_jax
from n2f_jax.runtime.atomic_files import atomic_path

# glTF 2.0, section 3.6.2.2 and 3.6.2.4.
_COMPONENTS = {"uint8": 5121, "uint16": 5123, "uint32": 5125, "float32": 5126}
_KINDS = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
VERTICES, TRIANGLES = 34962, 34963  # what a buffer view is for
_CLAMP, _LINEAR, _MIPMAPPED = 33071, 9729, 9987


def pygltflib() -> Any:
    """The package.

    Raises:
        ImportError: it is not installed; the message says how.
    """
    try:
        import pygltflib
    except ImportError as error:
        raise ImportError("rigs need pygltflib: pip install 'n2f-jax[rig]'") from error
    return pygltflib


class GltfWriter:
    """One file in the making.

    Attributes:
        document: pygltflib's tree, whose nodes, meshes, … are the caller's to append.
    """

    def __init__(self) -> None:
        gltf = pygltflib()
        self.document = gltf.GLTF2(
            asset=gltf.Asset(version="2.0", generator=f"n2f-jax {n2f_jax.__version__}"), scene=0
        )
        self._data = bytearray()

    def view(self, data: bytes, target: int | None = None) -> int:
        """Appends bytes; the index of their buffer view."""
        self._data += bytes(-len(self._data) % 4)  # accessors begin at multiples of their components' size
        view = pygltflib().BufferView(
            buffer=0, byteOffset=len(self._data), byteLength=len(data), target=target
        )
        self.document.bufferViews.append(view)
        self._data += data
        return len(self.document.bufferViews) - 1

    def accessor(self, array: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """Appends an array ``(N, …)`` and describes it; its index. Matrices are written column by column.

        Args:
            array: float32, uint8, uint16 or uint32; elements are numbers, 2 … 4 of them, or 4 × 4.
            target: ``VERTICES``, ``TRIANGLES`` or None.
            bounds: write smallest and largest values, as positions and times need them.
        """
        element = array.shape[1:]
        columns = np.swapaxes(array, 1, 2) if element == (4, 4) else array
        flat = array.reshape(len(array), -1)
        accessor = pygltflib().Accessor(
            bufferView=self.view(np.ascontiguousarray(columns).tobytes(), target),
            componentType=_COMPONENTS[array.dtype.name],
            count=len(array),
            type=_KINDS[element],
        )
        if bounds:
            accessor.min, accessor.max = (
                [float(x) for x in ends] for ends in (flat.min(axis=0), flat.max(axis=0))
            )
        self.document.accessors.append(accessor)
        return len(self.document.accessors) - 1

    def texture(self, image: bytes, mime: str, name: str) -> int:
        """Appends an image file; the index of its texture."""
        gltf, document = pygltflib(), self.document
        document.images.append(gltf.Image(bufferView=self.view(image), mimeType=mime, name=name))
        document.samplers.append(
            gltf.Sampler(magFilter=_LINEAR, minFilter=_MIPMAPPED, wrapS=_CLAMP, wrapT=_CLAMP)
        )
        document.textures.append(
            gltf.Texture(source=len(document.images) - 1, sampler=len(document.samplers) - 1)
        )
        return len(document.textures) - 1

    def save(self, path: str | Path) -> None:
        """Writes the file, atomically.

        Raises:
            OSError: it cannot be written.
        """
        self._data += bytes(-len(self._data) % 4)
        self.document.buffers = [pygltflib().Buffer(byteLength=len(self._data))]
        self.document.set_binary_blob(bytes(self._data))
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"".join(self.document.save_to_bytes()))
