"""Text-to-music generators: one module or folder each, loaded by name through `rerank.registry`."""
