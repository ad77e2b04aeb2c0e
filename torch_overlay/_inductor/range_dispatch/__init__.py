"""The engine of range-tuned custom ops; see ``torch._inductor.kernel.custom_op``.

One thing a file, each importing only from those before it: ``ranges``, ``configs``,
``spec``, ``binding``, ``candidates``, ``inputs``, ``tuning``, ``cond_tree``.
"""
