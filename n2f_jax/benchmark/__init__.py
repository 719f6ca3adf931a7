"""An open benchmark: heads that no coefficients of the open head give exactly, at controlled poses, and what is seen of
them. ``docs/benchmark.md`` defines it."""
