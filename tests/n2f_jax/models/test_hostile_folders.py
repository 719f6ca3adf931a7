"""A stranger's ``config.json``: sizes that are none, paths that lead elsewhere, JSON without an end."""

import json
import math
import os

import numpy as np
import pytest

from n2f_jax.models.folders import (
    MissingPretrainedError,
    PretrainedError,
    read_description,
    read_safetensors,
    read_weights,
    write_folder,
)
from n2f_jax.models.n2fnet import n2fnet_config
from n2f_jax.models.pretrained import HeadModelIdentity, InputSpec, describe, parse_description

pytestmark = pytest.mark.timeout(30)
CONFIG = n2fnet_config("tiny")
DESCRIPTION = json.loads(
    json.dumps(
        describe(CONFIG, InputSpec(128, 1.4), HeadModelIdentity("h", 10, 10, 300, 100, {"faces": "0"}))
    )
)


def test_the_description_itself_is_fine():
    assert parse_description(DESCRIPTION, "config.json")[0] == CONFIG


@pytest.mark.parametrize("value", [-1, 0, math.nan, "x", None, True, 2.5, 1 << 40, [1]])
@pytest.mark.parametrize("field", ["width", "depth", "patch_size"])
def test_sizes_that_are_none(field, value):
    description = json.loads(json.dumps(DESCRIPTION))
    description["network"]["backbone"][field] = value
    with pytest.raises(PretrainedError, match=rf"config\.json: network\.backbone\.{field} is") as caught:
        parse_description(description, "config.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["network"]["backbone"].update(depth=10**9), "from 1 to 200"),
        (lambda d: d["network"].update(camera_mean=[0.5, math.inf, 0]), "camera_mean is inf"),
        (lambda d: d["network"].update(camera_mean="abc"), "not 3 numbers"),
        (lambda d: d["network"].update(pooling="max"), "not one of mean, grid"),
        (lambda d: d["network"].update(correction={"passes": 10**9}), "correction.passes"),
        (lambda d: d.update(network=[]), "no object"),
        (lambda d: d["inputs"].update(size="x"), "inputs.size"),
        (lambda d: d["inputs"].update(masked=1), "inputs.masked"),
        (lambda d: d["head_model"].update(sha256=3), "head_model.sha256"),
        (lambda d: d["head_model"].update(num_vertices=-1), "num_vertices"),
        (lambda d: d.pop("inputs"), "missing or unknown field: inputs"),
    ],
)
def test_other_values_that_are_none(change, message):
    description = json.loads(json.dumps(DESCRIPTION))
    change(description)
    with pytest.raises(PretrainedError, match=message):
        parse_description(description, "config.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "x", "a": ' + "[" * 100_000, "nested too deeply"),
        ('{"format": "x", "a": NaN}', "not valid JSON"),
        ('{"format": "x", "a": ' + "9" * 10_000 + "}", "not valid JSON"),
        ("[]", "does not describe"),
        ('{"format": "' + "y" * 10_000 + '"}', "does not describe"),
        (b"\xff", "not valid JSON"),
        (" " * ((1 << 24) + 1), "at most"),
    ],
)
def test_json_that_is_none(tmp_path, text, message):
    (tmp_path / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PretrainedError, match=message) as caught:
        read_description(tmp_path, "x", 1)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_weights_lie_in_the_folder(tmp_path):
    description = {"format": "x", "format_version": 1, "weights": {"file": "w.safetensors"}}
    write_folder(tmp_path / "net", description, {"weights": {"a": np.ones(2, np.float32)}})
    entry = read_description(tmp_path / "net", "x", 1)["weights"]
    assert list(read_weights(tmp_path / "net", entry)) == ["a"]
    (tmp_path / "w.safetensors").write_bytes((tmp_path / "net/w.safetensors").read_bytes())
    for name in (
        "../w.safetensors",
        str(tmp_path / "w.safetensors"),
        "..",
        "",
        3,
        "a\0b",
        "..\\w.safetensors",
    ):
        with pytest.raises(PretrainedError, match="no file's name"):
            read_weights(tmp_path / "net", entry | {"file": name})
    with pytest.raises(PretrainedError, match="truncated or replaced"):
        read_weights(tmp_path / "net", entry | {"bytes": "many"})


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "config.json")
    os.mkfifo(tmp_path / "w.safetensors")
    with pytest.raises(PretrainedError, match="not a regular file"):
        read_description(tmp_path, "x", 1)
    with pytest.raises(PretrainedError, match="not a regular file"):
        read_weights(tmp_path, {"file": "w.safetensors", "sha256": "", "bytes": 0})
    with pytest.raises(PretrainedError, match="not a regular file"):
        read_safetensors(tmp_path / "w.safetensors")
    for error in (MissingPretrainedError, FileNotFoundError):
        with pytest.raises(error):
            read_description(tmp_path / "absent", "x", 1)
