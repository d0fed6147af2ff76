"""The command `rerank`."""

from rerank.cli.root import app, main

__all__ = ["app", "main"]
