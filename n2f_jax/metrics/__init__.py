"""Errors of predicted heads, cameras and maps against known ones, as jitted JAX."""
