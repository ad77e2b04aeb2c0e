"""The engine of range-tuned custom ops; see ``torch._inductor.kernel.custom_op``.

Each sub-package is a floor, and imports only from its own and those below it, from the
lowest: ``plan``, ``registration``, ``call``, ``trace``, ``selection``, ``cond``,
``tuning`` and ``lowering``.
"""
