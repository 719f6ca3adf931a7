"""Pixel3DMM (Giebenhain et al. 2025, https://github.com/SimonGiebenhain/pixel3dmm at 98b5d79): its networks, the
folders that its preprocessing writes, and the heads that its tracker saves. Facts about it come from its source; the
code is ours."""

COMMIT = "98b5d79"  # of its repository: what the code here was written and checked against
