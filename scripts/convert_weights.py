"""Pretrained DINOv3 weights as a folder of ours (``n2f convert weights``)."""

import sys

from n2f_jax.cli.convert import weights as main

if __name__ == "__main__":
    sys.exit(main())
