"""Trains a network: all of it for a head model of one's own, or one stage.

n2f train --head-model FLAME2020/ --out my_network

One command: it lays the open head over the model (once, kept beside its file), chooses the small variant or the
paper's by the hardware, says how long it will take here by a few measured steps, trains stage 1, stage 2 and, in the
small variant, the correction, and measures what the network's answers are worth. The folder is then what --checkpoint
takes. --config.field=value sets a field of every stage that has it. The same command again resumes.

n2f train --config stage1:small --workdir runs/stage1
n2f train --config stage2:small --workdir runs/stage2 --config.init_from=runs/stage1/best

--config names a preset (n2f_jax/training/presets.py) or a file, with a variant after a colon: configs/stage1.py:small.
Every field can be set: --config.field=value. On several hosts the same command on each, with --coordinator HOST:PORT
--num-processes N --process-id I (or --distributed where the cluster says so itself), and a --workdir that all of them
see. The same command again resumes.

Exit code: 0 the run is complete; 75 a signal stopped it with everything saved, or a checkpoint could not be written; 2
it cannot start as asked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from n2f_jax.cli import options
from n2f_jax.cli.command import Command
from n2f_jax.cli.configs import add_config, laid_over, load_head, read_config, read_presets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    whole = parser.add_argument_group("a network for a head model")
    whole.add_argument(
        "--head-model", type=Path, metavar="PATH", help="FLAME, GNM Head, or any in FLAME's format"
    )
    whole.add_argument(
        "--out", type=Path, metavar="DIR", help="the network's folder, with the stages' in it; made if needed"
    )
    whole.add_argument(
        "--variant", choices=("auto", "small", "paper"), default="auto", help="default: by the hardware"
    )
    whole.add_argument(
        "--backbone-weights",
        type=Path,
        metavar="PATH",
        help="DINOv3's, from which the paper's variant starts",
    )
    whole.add_argument(
        "--steps-share",
        type=float,
        default=1.0,
        metavar="X",
        help="of every stage's steps; default: %(default)s",
    )
    whole.add_argument(
        "--calibration-heads", type=int, metavar="N", help="of each kind of input; default: 10000 or more"
    )
    options.add_device(whole)
    stage = parser.add_argument_group("one stage")
    add_config(stage, required=False)
    stage.add_argument("--workdir", metavar="DIR", help="the run's folder")
    stage.add_argument(
        "--distributed", action="store_true", help="several processes; jax.distributed finds them"
    )
    stage.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0, for several processes")
    stage.add_argument("--num-processes", type=int, metavar="N", help="with --coordinator: how many")
    stage.add_argument("--process-id", type=int, metavar="I", help="with --coordinator: which one this is")


def run(flags: argparse.Namespace) -> int:
    if (flags.config is None) == (flags.head_model is None):
        raise ValueError("one of: --head-model PATH --out DIR, --config NAME --workdir DIR")
    missing = "--out" if flags.head_model and not flags.out else "--workdir"
    if (flags.out if flags.head_model else flags.workdir) is None:
        raise ValueError(f"{missing} DIR is missing")
    options.choose_device(flags.device)
    from n2f_jax.runtime import compilation_cache
    from n2f_jax.training.checkpoints import CheckpointWriteError
    from n2f_jax.training.loop import EXIT_RESUME_ME

    try:
        if flags.head_model:
            compilation_cache.enable()
            return _train_whole(flags)
        config = read_config(flags)
        if flags.distributed or flags.coordinator:
            import jax

            jax.distributed.initialize(flags.coordinator, flags.num_processes, flags.process_id)
        from n2f_jax.training.loop import train

        compilation_cache.enable()
        return train(config, flags.workdir, *load_head(config))
    except CheckpointWriteError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_RESUME_ME


def _train_whole(flags: argparse.Namespace) -> int:
    from n2f_jax.runtime.display import echo
    from n2f_jax.runtime.output_folder import prepare_output
    from n2f_jax.training import own_network

    path, out = flags.head_model.absolute(), flags.out.absolute()
    model, places = laid_over(options.load_head_model(path), path)
    variant, why = flags.variant, "as asked"
    if variant == "auto":
        variant, why = own_network.choose_variant(flags.backbone_weights is not None)
    echo(
        f"{model.name}: {model.num_vertices} vertices, {model.num_shape} + {model.num_expression} coefficients"
    )
    echo(f"variant: {variant} ({why})")
    weights = flags.backbone_weights.absolute() if flags.backbone_weights else ""
    plan = own_network.plan_stages(
        variant, model, path, out, backbone_weights=weights, share=flags.steps_share
    )
    configs = read_presets([(one.preset, one.settings) for one in plan], flags.overrides)
    stages = [(one.name, config) for one, config in zip(plan, configs, strict=True)]
    prepare_output(out)
    heads = (
        own_network.calibration_heads(model) if flags.calibration_heads is None else flags.calibration_heads
    )
    own_network.expected_time(stages, out, model, places, heads, echo)
    echo(f"what comes out: {flags.out}, for --checkpoint; its stages' runs and reports in it")
    if code := own_network.train_stages(stages, out, model, places, heads=heads, say=echo):
        return code
    echo(f"output: {flags.out}")
    echo(f"n2f reconstruct PHOTO --checkpoint {flags.out} --head-model {flags.head_model} --out heads")
    return 0


main = Command(__doc__, add_arguments, run)
