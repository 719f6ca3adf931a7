"""Made-up faces for the tests of what is stored."""

import numpy as np

from n2f_jax.data.manifest import ManifestWriter, Record
from n2f_jax.data.preprocessed import StoredFace, face_id, face_path, write_face


def random_face(seed: int = 0, size: int = 40, **changes) -> StoredFace:
    """Smooth unit normals in a disc, with all that can be stored."""
    rng = np.random.default_rng(seed)
    v, u = np.mgrid[:size, :size] / size - 0.5
    mask = (u**2 + v**2 < 0.16).astype(np.float32)
    tilt = rng.normal(0, 0.3, 2)
    normals = np.stack([2 * u + tilt[0], -2 * v + tilt[1], np.ones_like(u)], axis=-1)
    normals = (normals / np.linalg.norm(normals, axis=-1, keepdims=True) * mask[..., None]).astype(np.float32)
    values = {
        "normals": normals,
        "mask": mask,
        "crop": np.array([12.25, -7.5, 333.3]),
        "landmarks_68": rng.uniform(5, size - 5, (68, 2)).astype(np.float32),
        "intrinsics": np.array([[1.2 * size, 0, 0.4 * size], [0, 1.2 * size, 0.6 * size], [0, 0, 1]]),
        "focal_source": "exif",
        "image_size": (480, 640),
        "source": "/photos/é 1.jpg",
        "score": 0.75,
        "provenance": {"frontend": "made up", "crop_scale": 1.75},
        "uv": (np.stack([u, v], axis=-1) * mask[..., None]).astype(np.float32),
        "classes": rng.integers(0, 19, (size, size), np.uint8),
    }
    return StoredFace(**(values | changes))


def write_folder(folder, faces: dict[str, list[StoredFace]]) -> dict[str, list[str]]:
    """A preprocessed folder: key of each image → its faces. Gives their ids."""
    ids = {key: [face_id(key, number=n + 1) for n in range(len(found))] for key, found in faces.items()}
    with ManifestWriter(folder, "all") as manifest:
        for key, found in faces.items():
            for name, face in zip(ids[key], found, strict=True):
                write_face(face_path(folder, name), face)
            manifest.write(Record(key, "ok" if found else "no face", faces=tuple(ids[key])))
    return ids
