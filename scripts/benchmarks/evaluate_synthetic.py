"""Measures a saved network on held-out synthetic heads, drawn by the paper's sampler.

python scripts/benchmarks/evaluate_synthetic.py runs/stage2/best --num-heads 1000

Prints the vertex error of each region after rigid alignment (no scale), beside that of predicting the mean head,
and the camera's errors: from what the free front end gives with the error of its points, from full normals, and from
the front end's maps without error.
"""

import argparse
import json
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint", type=Path, help="a folder written by training or save_pretrained")
    parser.add_argument("--num-heads", type=int, default=1000)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="of the held-out set")
    parser.add_argument("--head-model", default="", help=".npz of FLAME's arrays; default: the open head")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()

    from flame_jax import HeadModelError
    from n2f_jax.evaluation.synthetic import evaluate_pretrained, format_report
    from n2f_jax.models.pretrained import PretrainedError
    from n2f_jax.runtime import compilation_cache

    compilation_cache.enable()
    try:
        results = evaluate_pretrained(
            args.checkpoint,
            head_model=args.head_model,
            num_heads=args.num_heads,
            batch_size=args.batch_size,
            seed=args.seed,
        )
    except (FileNotFoundError, HeadModelError, PretrainedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{args.num_heads} held-out heads, seed {args.seed}, {args.checkpoint}")
    print(format_report(results))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
