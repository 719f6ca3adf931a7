"""An open benchmark: heads that no coefficients of the open head give exactly, at controlled poses.

``docs/benchmark.md`` defines it."""
