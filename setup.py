"""One distribution with two packages: ``flame_jax`` (a head model) and ``n2f_jax`` (what sees an image)."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

CORE = [
    "absl-py>=2.1",
    "flax>=0.12",
    "jax>=0.7",
    "jaxtyping>=0.3",
    "matplotlib>=3.9",
    "ml-collections>=1.0",
    "numpy>=2.0",
    "opencv-python>=4.10",
    "optax>=0.2.5",
    "orbax-checkpoint>=0.11.20",
    "pillow>=11",
    "safetensors>=0.8",
    "scipy>=1.13",
    "tensorboardX>=2.6",
    "tqdm>=4.66",
    "trimesh>=4.5",
]
FACE_MESH = ["ai-edge-litert>=2.0"]
DEMO = [*FACE_MESH, "scikit-image>=0.24"]
# Closest points on meshes and rays.
EVALUATION = ["embreex>=2.17.7.post6", "libigl>=2.6"]
# Reads stored faces in training; no wheel for Intel Macs.
FINETUNE = ["grain>=0.2.18"]
TEST = [
    *DEMO,
    *EVALUATION,
    *FINETUNE,
    "beartype>=0.19",
    "chumpy-fork>=0.71",
    "hypothesis>=6.100",
    "pytest>=8",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "rtree>=1.3",
    "ruff>=0.9",
]
# The paper's own front end (docs/front_ends.md); choose the build of PyTorch yourself.
BRIDGE = [*FACE_MESH, "torch>=2.6"]
TORCH = [
    *("onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.5"),
    *("smplx>=0.1.28", "torch>=2.6", "transformers>=5.0"),
]

setup(
    name="n2f-jax",
    version=re.search(r'__version__ = "(.+?)"', (HERE / "n2f_jax/__init__.py").read_text())[1],
    description="One photo to a FLAME head in one feed-forward pass, in JAX",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["flame_jax*", "n2f_jax*"]),
    package_data={
        "flame_jax": ["assets/*"],
        "n2f_jax": ["benchmark/assets/*", "frontends/assets/*", "models/assets/*", "models/assets/*/*"],
    },
    install_requires=CORE,
    extras_require={
        "bridge": BRIDGE,
        "face-mesh": FACE_MESH,
        "demo": DEMO,
        "evaluation": EVALUATION,
        "finetune": FINETUNE,
        "test": TEST,
        "torch": TORCH,
    },
)
