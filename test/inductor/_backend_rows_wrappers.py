# Owner(s): ["module: inductor"]
"""Rows for the wrappers that Inductor can write a graph as."""

import unittest

from _backend_rows import compile_and_check, Rows
from _dispatched_models import DispatchedModel
from torch._inductor import config


ROWS = Rows()
WRAPPERS = "Wrappers"


@ROWS.row(
    "python", WRAPPERS, acted="the wrapper is Python code with a function a branch"
)
def python(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = compile_and_check(case, model)
    case.assertIn("def call(", result.source)
    case.assertIn("if ", result.source)


@ROWS.row("cpp", WRAPPERS, acted="the wrapper is C++ code")
@config.patch(cpp_wrapper=True)
def cpp(case: unittest.TestCase, model: DispatchedModel) -> None:
    result = compile_and_check(case, model)
    case.assertIn("inductor_entry_impl", result.source)
