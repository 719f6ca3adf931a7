"""DINOv3 weights between our parameter tree and PyTorch state dicts, Hugging Face's and Meta's names.

One ordered table per naming scheme drives both directions. Reading, every array of ours must be filled and
every key of the source used or listed as ignored; anything else is an error that names it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import numpy as np
from flax import nnx

from n2f_jax.models.dinov3 import DinoV3, DinoV3Config
from n2f_jax.models.layers import RotaryPositions
from n2f_jax.models.parameters import Tree, flatten, to_dict, unflatten

Scheme = Literal["huggingface", "meta"]
PERIODS = "rope/periods"


class ConversionError(ValueError):
    """Weights do not fit; the message lists every key that is wrong."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How one array is laid out on either side; the two functions are inverse to each other."""

    to_ours: Callable[[np.ndarray], np.ndarray]
    to_theirs: Callable[[np.ndarray], np.ndarray]


SAME = Layout(lambda x: x, lambda x: x)
# torch Linear (out, in) ↔ (in, out); torch Conv2d (out, in, y, x) ↔ (y, x, in, out).
LINEAR = Layout(lambda x: x.T, lambda x: x.T)
CONV = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row of a table.

    Attributes:
        ours: our path; ``{n}`` stands for a block's number.
        theirs: the key on the other side.
        layout: how the array is laid out there.
        third: which third of the other side's first axis is meant (query, key and value are one array in
            Meta's files), or None for the whole.
    """

    ours: str
    theirs: str
    layout: Layout = SAME
    third: int | None = None


def norm_rows(ours: str, theirs: str) -> list[Rule]:
    """Scale and bias of a LayerNorm."""
    return [Rule(f"{ours}/scale", f"{theirs}.weight"), Rule(f"{ours}/bias", f"{theirs}.bias")]


def linear_rows(ours: str, theirs: str, third: int | None = None) -> list[Rule]:
    """Kernel and bias of a linear layer."""
    return [
        Rule(f"{ours}/kernel", f"{theirs}.weight", LINEAR, third),
        Rule(f"{ours}/bias", f"{theirs}.bias", SAME, third),
    ]


_B = "blocks/{n}"

HUGGINGFACE: tuple[Rule, ...] = (
    Rule("class_token", "embeddings.cls_token"),
    Rule("register_tokens", "embeddings.register_tokens"),
    Rule("patch_embedding/kernel", "embeddings.patch_embeddings.weight", CONV),
    Rule("patch_embedding/bias", "embeddings.patch_embeddings.bias"),
    *norm_rows(f"{_B}/norm1", "layer.{n}.norm1"),
    *linear_rows(f"{_B}/attention/query", "layer.{n}.attention.q_proj"),
    *linear_rows(f"{_B}/attention/key", "layer.{n}.attention.k_proj"),
    *linear_rows(f"{_B}/attention/value", "layer.{n}.attention.v_proj"),
    *linear_rows(f"{_B}/attention/output", "layer.{n}.attention.o_proj"),
    Rule(f"{_B}/layer_scale1/gamma", "layer.{n}.layer_scale1.lambda1"),
    *norm_rows(f"{_B}/norm2", "layer.{n}.norm2"),
    *linear_rows(f"{_B}/mlp/gate", "layer.{n}.mlp.gate_proj"),
    *linear_rows(f"{_B}/mlp/up", "layer.{n}.mlp.up_proj"),
    *linear_rows(f"{_B}/mlp/down", "layer.{n}.mlp.down_proj"),
    Rule(f"{_B}/layer_scale2/gamma", "layer.{n}.layer_scale2.lambda1"),
    *norm_rows("norm", "norm"),
)

_META: tuple[Rule, ...] = (
    Rule("class_token", "cls_token"),
    Rule("register_tokens", "storage_tokens"),
    Rule("patch_embedding/kernel", "patch_embed.proj.weight", CONV),
    Rule("patch_embedding/bias", "patch_embed.proj.bias"),
    Rule(PERIODS, "rope_embed.periods"),
    *norm_rows(f"{_B}/norm1", "blocks.{n}.norm1"),
    *linear_rows(f"{_B}/attention/query", "blocks.{n}.attn.qkv", 0),
    *linear_rows(f"{_B}/attention/key", "blocks.{n}.attn.qkv", 1),
    *linear_rows(f"{_B}/attention/value", "blocks.{n}.attn.qkv", 2),
    *linear_rows(f"{_B}/attention/output", "blocks.{n}.attn.proj"),
    Rule(f"{_B}/layer_scale1/gamma", "blocks.{n}.ls1.gamma"),
    *norm_rows(f"{_B}/norm2", "blocks.{n}.norm2"),
    Rule(f"{_B}/layer_scale2/gamma", "blocks.{n}.ls2.gamma"),
    *norm_rows("norm", "norm"),
)
_META_MLP = (
    *linear_rows(f"{_B}/mlp/up", "blocks.{n}.mlp.fc1"),
    *linear_rows(f"{_B}/mlp/down", "blocks.{n}.mlp.fc2"),
)
_META_GATED_MLP = (
    *linear_rows(f"{_B}/mlp/gate", "blocks.{n}.mlp.w1"),
    *linear_rows(f"{_B}/mlp/up", "blocks.{n}.mlp.w2"),
    *linear_rows(f"{_B}/mlp/down", "blocks.{n}.mlp.w3"),
)

# Keys that inference does not need: the token that hides patches in pre-training, and the norm that the
# satellite ViT-L applies to the class token of local crops in training.
IGNORED: tuple[str, ...] = (
    r"(embeddings\.)?mask_token",
    r"local_cls_norm\.(weight|bias)",
    # Not an array to load: it says that the fused bias has no key part, which is checked.
    r"blocks\.\d+\.attn\.qkv\.bias_mask",
)


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What a conversion did that is not in the arrays.

    Attributes:
        scheme: whose names the source had.
        ignored: keys of the source that were knowingly left out.
        periods: ``'file'`` if the rotary periods came with the weights (Meta's are rounded to bf16), else
            ``'recomputed'`` in float32, as Hugging Face does.
    """

    scheme: Scheme
    ignored: tuple[str, ...]
    periods: Literal["file", "recomputed"]


def table(scheme: Scheme, config: DinoV3Config) -> tuple[Rule, ...]:
    """The rows for a naming scheme and a network."""
    if scheme == "huggingface":
        return HUGGINGFACE
    return (*_META, *(_META_GATED_MLP if config.gated_mlp else _META_MLP))


def detect_scheme(keys: Iterable[str]) -> Scheme:
    """Whose names a state dict has.

    Raises:
        ConversionError: neither's.
    """
    keys = set(keys)
    if "embeddings.cls_token" in keys:
        return "huggingface"
    if "cls_token" in keys and "storage_tokens" in keys:
        return "meta"
    some = ", ".join(sorted(keys)[:5]) or "no keys at all"
    raise ConversionError(f"these are neither Hugging Face's nor Meta's names of a DINOv3 ViT: {some}")


def dinov3_from_torch(state: Mapping[str, np.ndarray], config: DinoV3Config) -> tuple[Tree, ConversionReport]:
    """Our parameter tree from a PyTorch state dict.

    Args:
        state: key → array. ``layer.N`` and ``model.layer.N`` (transformers 5 in memory) are both read.
        config: the network that is to be filled.

    Returns:
        The tree, float32, and a report.

    Raises:
        ConversionError: keys missing or unknown, or shapes that do not fit; all of them are listed.
    """
    state = {re.sub(r"^model\.layer\.", "layer.", key): np.asarray(value) for key, value in state.items()}
    scheme = detect_scheme(state)
    expected = flatten(to_dict(nnx.eval_shape(lambda: DinoV3(config, rngs=nnx.Rngs(0)))))
    # Files without the periods are filled below.
    wanted = {
        path: leaf for path, leaf in expected.items() if path != PERIODS or "rope_embed.periods" in state
    }
    filled, ignored = fill(state, wanted, table(scheme, config), IGNORED, _key_bias_problems(state))
    periods: Literal["file", "recomputed"] = "file"
    if PERIODS not in filled:
        periods = "recomputed"
        filled[PERIODS] = recomputed_periods(config)
    return unflatten(filled), ConversionReport(scheme, ignored, periods)


def dinov3_to_torch(
    tree: Mapping[str, Any], config: DinoV3Config, scheme: Scheme = "huggingface"
) -> dict[str, np.ndarray]:
    """A PyTorch state dict, complete enough for a strict load, from our parameter tree.

    What we do not hold is filled in: a zero mask token (pre-training only) and, in Meta's names, the key part
    of the fused bias (zero) with its mask. Hugging Face's names have no place for the rotary periods.

    Raises:
        ConversionError: a path of the tree has no row in the table.
    """
    flat = {path: np.asarray(leaf) for path, leaf in flatten(tree).items()}
    without_place = {PERIODS} if scheme == "huggingface" else set()
    rows = table(scheme, config)
    state, thirds = spread({p: leaf for p, leaf in flat.items() if p not in without_place}, rows)
    for key, parts in thirds.items():
        zero = np.zeros_like(parts[0])
        state[key] = np.concatenate([parts.get(third, zero) for third in range(3)])
        if 1 not in parts:
            one = np.ones_like(zero)
            state[f"{key}_mask"] = np.concatenate([one, zero, one])
    width = flat["class_token"].shape[-1]
    if scheme == "huggingface":
        state["embeddings.mask_token"] = np.zeros((1, 1, width), np.float32)
    else:
        state["mask_token"] = np.zeros((1, width), np.float32)
    return state


def fill(
    state: Mapping[str, np.ndarray],
    expected: Mapping[str, Any],
    rows: Iterable[Rule],
    ignored: Iterable[str] = (),
    problems: Iterable[str] = (),
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Our arrays, by path, from a state dict.

    Args:
        state: key → array.
        expected: our path → what has the shape that it shall have.
        rows: the table.
        ignored: patterns of keys that are knowingly left out.
        problems: what is already known to be wrong, to be listed with the rest.

    Returns:
        Path → float32 array, and the keys that were ignored.

    Raises:
        ConversionError: keys missing or unknown, shapes that do not fit, a path without a row: all of them listed.
    """
    rows, problems, used = tuple(rows), list(problems), set()
    filled: dict[str, np.ndarray] = {}
    for path, leaf in expected.items():
        rule, number = _find(path, rows)
        if rule is None:
            problems.append(f"no rule of the table matches our {path}")
            continue
        key = rule.theirs.format(n=number)
        if key not in state:
            problems.append(f"missing: {key} (our {path}, {tuple(leaf.shape)})")
            continue
        used.add(key)
        source = state[key]
        try:
            value = rule.layout.to_ours(source if rule.third is None else np.split(source, 3)[rule.third])
        except ValueError:
            value = source
        if value.shape != tuple(leaf.shape):
            problems.append(f"{key}: {source.shape} does not fit our {path}, {tuple(leaf.shape)}")
            continue
        filled[path] = np.ascontiguousarray(value, np.float32)
    left_out = tuple(
        key for key in state if key not in used and any(re.fullmatch(pattern, key) for pattern in ignored)
    )
    problems += [f"unknown: {key} {state[key].shape}" for key in state if key not in used | set(left_out)]
    if problems:
        shown = problems[:20] + ([f"… and {len(problems) - 20} more"] if len(problems) > 20 else [])
        raise ConversionError("the weights do not fit the network:\n  " + "\n  ".join(shown))
    return filled, left_out


def spread(
    flat: Mapping[str, np.ndarray], rows: Iterable[Rule]
) -> tuple[dict[str, np.ndarray], dict[str, dict[int, np.ndarray]]]:
    """The other way: key → array, and the thirds of those that are one array on the other side.

    Raises:
        ConversionError: a path has no row in the table.
    """
    rows = tuple(rows)
    state: dict[str, np.ndarray] = {}
    thirds: dict[str, dict[int, np.ndarray]] = {}
    for path, leaf in flat.items():
        rule, number = _find(path, rows)
        if rule is None:
            raise ConversionError(f"no rule of the table matches our {path}")
        key, value = rule.theirs.format(n=number), np.array(rule.layout.to_theirs(leaf), order="C")
        if rule.third is None:
            state[key] = value
        else:
            thirds.setdefault(key, {})[rule.third] = value
    return state, thirds


def recomputed_periods(config: DinoV3Config) -> np.ndarray:
    """The rotary periods of a fresh network, for sources that do not hold them."""
    return np.asarray(RotaryPositions(config.width // config.num_heads, config.rope_base).periods[...])


def _find(path: str, rows: Iterable[Rule]) -> tuple[Rule | None, str]:
    """The first row whose path matches, and the block's number in it."""
    for rule in rows:
        match = re.fullmatch(re.escape(rule.ours).replace(r"\{n\}", r"(?P<n>\d+)"), path)
        if match:
            return rule, match.groupdict().get("n", "")
    return None, ""


def _key_bias_problems(state: Mapping[str, np.ndarray]) -> list[str]:
    """Fused biases whose key part would act: our network has none, so it must be masked or zero."""
    problems = []
    for key, bias in state.items():
        if not re.fullmatch(r"blocks\.\d+\.attn\.qkv\.bias", key) or bias.shape[0] % 3:
            continue
        mask = state.get(f"{key}_mask", np.ones_like(bias))
        query, key_part, value = np.split(mask, 3)
        if not (query == 1).all() or not (value == 1).all():
            problems.append(f"{key}_mask hides part of the query or value bias")
        if np.any(np.split(bias, 3)[1] * key_part):
            problems.append(f"{key} has a key part that is neither masked nor zero")
    return problems
