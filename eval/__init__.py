"""How much reranking helps: one module per question."""
