"""The engine of range-tuned custom ops; see ``torch._inductor.kernel.custom_op``.

One thing a file, each importing only from those before it: ``ranges``, ``records``,
``configs``, ``spec``, ``binding``, ``promise``, ``candidates``, ``guards``,
``tracing``, ``inputs``, ``narrowing``, ``variants``, ``modules``, ``ranks``,
``agreement``, ``in_step``, ``timing``, ``code_names``, ``identity``,
``tuning_cache``, ``progress``, ``tuning``, ``choosing``, ``selection``,
``cond_tree``, ``inlining``.
"""
