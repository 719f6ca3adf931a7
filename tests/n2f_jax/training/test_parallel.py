"""The same numbers on one device and on many, split parameters included."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from n2f_jax.models.parameters import flatten
from n2f_jax.training import setup
from n2f_jax.training.optimizers import build_optimizer
from n2f_jax.training.parallel import Layout, Parts
from n2f_jax.training.step import initial_state, make_train_step
from n2f_jax.training.validation import Validation

from .conftest import make_objective

pytestmark = pytest.mark.medium

REPOSITORY = Path(__file__).parents[3]
STEPS = 3


def run_steps(config, params, groups, head, layout, accumulation_steps=1):
    """Parameters, last metrics and validation after a few steps."""
    optimizer, _ = build_optimizer(config.optimizer, groups, 20)
    objective = make_objective(config)
    assets = layout.place(setup.build_assets(config, head))
    step = make_train_step(
        objective, optimizer, groups, seed=5, layout=layout, accumulation_steps=accumulation_steps
    )
    state = initial_state(params, optimizer, groups, layout)
    for _ in range(STEPS):
        state, metrics = step(state, assets)
    validation, _ = Validation(objective, 8, 8, 1, layout)(state["params"], assets)
    flat = flatten(state["params"])
    return {path: np.asarray(leaf) for path, leaf in flat.items()}, jax.device_get(metrics), validation, state


def assert_alike(a, b, atol=2e-5):
    for path in a[0]:
        np.testing.assert_allclose(a[0][path], b[0][path], rtol=1e-4, atol=atol, err_msg=path)
    for name in a[1]:
        np.testing.assert_allclose(a[1][name], b[1][name], rtol=1e-4, err_msg=name)
    for name in a[2]:
        np.testing.assert_allclose(a[2][name], b[2][name], rtol=1e-3, err_msg=name)


def adam(config):
    """Adam without clipping: Muon's orthogonalisation in bfloat16 magnifies the order of sums."""
    config.optimizer.name = "adam"
    config.optimizer.rates = {key: 1e-3 for key in config.optimizer.rates}
    return config


def test_parts_cover_the_batch_and_share_the_first_samples():
    parts = Parts(4)
    indices = np.stack([np.asarray(parts.indices(p, 16)) for p in range(4)])
    assert sorted(indices.ravel()) == list(range(16))
    assert ((indices < 8).sum(axis=1) == 2).all()
    assert ((indices < 8) == (np.arange(4) < 2)[None]).all()  # they come first in each part, too
    assert parts.fits(16, 8) and not parts.fits(18, 8) and not parts.fits(16, 6)


@pytest.mark.slow
def test_two_devices_and_accumulation_give_one_devices_numbers(initialised, toy_head):
    """Split parameters, two accumulation steps; copied ones are what every run of these tests has."""
    config, params, groups = initialised
    config = adam(config)
    config.batch_size = 8
    one = run_steps(config, params, groups, toy_head, Layout.of_devices(1))
    layout = Layout.of_devices(2, fsdp=True)
    two = run_steps(config, params, groups, toy_head, layout, accumulation_steps=2)
    assert_alike(one, two)
    split = {
        path for path, leaf in flatten(two[3]["params"]).items() if leaf.sharding.spec != PartitionSpec()
    }
    trained = split - {path for path in split if groups[path] == "frozen"}
    assert len(trained) >= 3
    # Each device holds a half: of parameters, of the best copy, and of the optimiser's moments.
    for path in trained:
        for leaf in (flatten(two[3]["params"])[path], two[3]["best"]["trained"][path]):
            assert leaf.addressable_shards[0].data.size * 2 == leaf.size
    moments = [leaf for leaf in jax.tree.leaves(two[3]["opt_state"]) if leaf.sharding.spec != PartitionSpec()]
    assert len(moments) >= 2 * len(trained)


def test_a_batch_that_does_not_divide_is_refused(small_run):
    config = small_run(1, {"batch_size": 5})
    with pytest.raises(setup.SetupError, match=r"batch_size 5 .* 2 devices"):
        setup.layout(config, setup.sampler_config(config.data))
    with pytest.raises(setup.SetupError, match="9 devices are asked for and there are 2"):
        setup.layout(small_run(1, {"parallel.devices": 9}), setup.sampler_config(config.data))


_EIGHT = """
import sys
sys.path[:0] = [{root!r}]
import jax, numpy as np, flame_jax
from tests.n2f_jax.training import test_parallel as t
from tests.n2f_jax.training.config_file import read_config
from tests.n2f_jax.training.conftest import SMALL_RUN
from n2f_jax.training import setup
from n2f_jax.training.checkpoints import Checkpoints
from n2f_jax.training.optimizers import assign_groups, build_optimizer
from n2f_jax.training.parallel import Layout
from n2f_jax.training.step import initial_state
from n2f_jax.models.parameters import flatten

assert jax.device_count() == 8
config = read_config({root!r} + "/configs/stage1.py", "small")
config.head_model = {head!r}
config.update_from_flattened_dict(SMALL_RUN | {{"batch_size": 16}})
config = t.adam(config)
head = flame_jax.load_head_model({head!r})
params = setup.initial_params(config, head)
groups = assign_groups([tuple(row) for row in config.optimizer.groups], list(flatten(params)))
one, eight = Layout.of_devices(1), Layout.of_devices(8)
split = Layout.of_devices(8, fsdp=True)
reference = t.run_steps(config, params, groups, head, one)
copied = t.run_steps(config, params, groups, head, eight)
sharded = t.run_steps(config, params, groups, head, split)
t.assert_alike(reference, copied)
t.assert_alike(reference, sharded)

# Written on eight devices, read on one, and the reverse.
optimizer, _ = build_optimizer(config.optimizer, groups, 20)
for name, state, other in (("8to1", sharded[3], one), ("1to8", reference[3], split)):
    folder = {folder!r} + "/" + name
    saved = Checkpoints(folder, save_every=1)
    saved.save(t.STEPS, state)
    saved.close()
    template = initial_state(params, optimizer, groups, other)
    step, read = Checkpoints(folder, save_every=1).restore(template)
    assert step == t.STEPS
    for path, leaf in flatten(state["params"]).items():
        assert np.asarray(leaf).tobytes() == np.asarray(flatten(read["params"])[path]).tobytes(), path
    wanted = jax.tree.map(lambda leaf: leaf.sharding, template)
    assert jax.tree.map(lambda leaf: leaf.sharding, read) == wanted
print("alike")
"""


@pytest.mark.slow
def test_eight_devices(toy_head_path, tmp_path):
    """Copied and split parameters on eight virtual devices; checkpoints move between eight and one."""
    code = _EIGHT.format(root=str(REPOSITORY), head=str(toy_head_path), folder=str(tmp_path))
    flags = "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip().endswith("alike"), done.stdout[-1000:] + done.stderr[-3000:]


@pytest.mark.slow
def test_two_processes_give_one_processs_numbers(toy_head_path, tmp_path):
    """Two processes of one device each, over the loopback, against one process of two devices: the same network."""
    from n2f_jax.models.parameters import to_dict
    from n2f_jax.models.pretrained import from_pretrained

    from .test_loop import _overrides

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def start(workdir, devices, *arguments):
        flags = f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0"
        command = [sys.executable, "scripts/train.py", f"--workdir={workdir}", *arguments]
        command += _overrides(REPOSITORY / "configs" / "stage1.py", toy_head_path)
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=os.environ | {"XLA_FLAGS": flags},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(processes):
        for process in processes:
            output, _ = process.communicate(timeout=600)
            assert process.returncode == 0, output[-3000:]

    wait([start(tmp_path / "one", 2)])
    many = (f"--coordinator=127.0.0.1:{port}", "--num_processes=2")
    wait([start(tmp_path / "two", 1, *many, f"--process_id={i}") for i in range(2)])
    one, two = (
        flatten(to_dict(from_pretrained(tmp_path / name / "best").network)) for name in ("one", "two")
    )
    for path in one:
        np.testing.assert_allclose(one[path], two[path], rtol=1e-5, atol=1e-6, err_msg=path)
    assert (tmp_path / "two" / "metrics.jsonl").read_text().count("\n") == 15  # written once, not twice
