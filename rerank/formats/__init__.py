"""Audio files: how samples become bytes and come back; `rerank.audio` is what the rest uses."""
