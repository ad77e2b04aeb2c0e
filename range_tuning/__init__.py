"""What people do with tuning tables: make, read, compare, draw and register them.

``python -m range_tuning --help`` lists the commands. The engine, which measures and
dispatches, is ``torch._inductor.range_dispatch``; this package imports nothing of it
but what it exports, and torch imports nothing from here.
"""

try:
    from range_tuning.suggesting import suggest, Suggestion, Suggestions
except ImportError as error:
    raise ImportError(
        "range_tuning needs a torch with the torch._inductor.range_dispatch that it "
        f"was made with: lay that over it with scripts/overlay.py apply ({error})"
    ) from error


__all__ = ["Suggestion", "Suggestions", "suggest"]
