"""Sets of heads that fits are compared on (``n2f_jax.benchmark.run.HeadSet``)."""
