"""A web server that turns photographs into heads (docs/serving.md). FastAPI and uvicorn are the extra ``serve``."""

from n2f_jax.serving.limits import Limits

__all__ = ["Limits"]
