"""The web page: `rerank ui`."""
