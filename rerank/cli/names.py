"""`rerank models` and `rerank plugins`: what can be named."""

from rerank.cli.tables import print_models, print_plugins


def models() -> None:
    """List the generators and reward models that can be named."""
    from rerank.registry import entries

    print_models(list(entries("generator").values()), list(entries("reward").values()))


def plugins() -> None:
    """List what installed packages add; the variable RERANK_PLUGINS limits which may ('' for none)."""
    from rerank.registry import plugins as installed

    print_plugins([*installed("generator"), *installed("reward")])
