"""N2FNet's arrays under the names of the PyTorch module that ships (``n2f_jax/export/torch_n2fnet.py``), and back.

One table for both directions: the backbone's rows are those of Hugging Face's names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from n2f_jax.models.conversion import HUGGINGFACE, PERIODS, Rule, fill, linear_rows, norm_rows, spread
from n2f_jax.models.n2fnet import N2FNet, N2FNetConfig
from n2f_jax.models.parameters import Tree, flatten, to_dict, unflatten

_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}


def _module(name: str) -> list[Rule]:
    """Rows of the FLAME module or the camera module, which have the same structure."""
    rows = [
        row
        for part in ("norm1", "norm2", "pool_norm")
        for row in norm_rows(f"{name}/{part}", f"{name}.{part}")
    ]
    for ours, theirs in (
        *((f"attention/{ours}", f"attention.{theirs}") for ours, theirs in _ATTENTION.items()),
        *((f"feed_forward/{part}", f"feed_forward.{part}_proj") for part in ("up", "down")),
        *((part, part) for part in ("pool_reduce", "pool_mix", "output")),
        ("hidden/{n}", "hidden.{n}"),
    ):
        rows += linear_rows(f"{name}/{ours}", f"{name}.{theirs}")
    return rows


def _correction() -> list[Rule]:
    """Rows of the correction on the surface."""
    rows = [Rule("correction/pass_number", "correction.pass_number")]
    for tokens in ("normal_tokens", "point_tokens"):
        rows.append(Rule(f"correction/{tokens}/place", f"correction.{tokens}.place"))
        for part in ("features", "validity", "mixed", "plain"):
            rows += linear_rows(f"correction/{tokens}/{part}", f"correction.{tokens}.{part}")
    for part in ("join", "state", "output"):
        rows += linear_rows(f"correction/{part}", f"correction.{part}")
    rows += norm_rows("correction/norms/{n}", "correction.norms.{n}")
    for part in ("up", "down"):
        rows += linear_rows(f"correction/blocks/{{n}}/{part}", f"correction.blocks.{{n}}.{part}_proj")
    return rows


TABLE: tuple[Rule, ...] = (
    *(
        dataclasses.replace(row, ours=f"backbone/{row.ours}", theirs=f"backbone.{row.theirs}")
        for row in (*HUGGINGFACE, Rule(PERIODS, "rope.periods"))
    ),
    *_module("flame"),
    *_module("camera"),
    *_correction(),
)


def n2fnet_to_torch(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The PyTorch module's state dict (without a head model) from our parameter tree.

    Raises:
        ConversionError: a path of the tree has no row in the table.
    """
    return spread({path: np.asarray(leaf) for path, leaf in flatten(tree).items()}, TABLE)[0]


def n2fnet_from_torch(state: Mapping[str, np.ndarray], config: N2FNetConfig) -> Tree:
    """Our parameter tree from the PyTorch module's state dict; float32.

    Raises:
        ConversionError: keys missing or unknown, or shapes that do not fit; all of them are listed.
    """
    expected = flatten(to_dict(nnx.eval_shape(lambda: N2FNet(config, rngs=nnx.Rngs(0)))))
    return unflatten(fill(state, expected, TABLE)[0])
