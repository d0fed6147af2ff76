"""The command `rerank`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rerank.cli.root import app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; a Ctrl-C while it is being loaded ends it as one that comes later does."""
    try:
        from rerank.cli.root import main as run
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    run()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name != "app":
            raise AttributeError(f"module 'rerank.cli' has no attribute {name!r}")
        from rerank.cli.root import app

        return app
