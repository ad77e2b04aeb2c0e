# Owner(s): ["module: inductor"]
"""All rows of the matrix, in the order in which docs/backends.md shows them."""

import _backend_rows_caches
import _backend_rows_codegen
import _backend_rows_distributed
import _backend_rows_export
import _backend_rows_memory
import _backend_rows_semantics
import _backend_rows_training
import _backend_rows_wrappers


ROWS = [
    *_backend_rows_wrappers.ROWS,
    *_backend_rows_caches.ROWS,
    *_backend_rows_memory.ROWS,
    *_backend_rows_codegen.ROWS,
    *_backend_rows_training.ROWS,
    *_backend_rows_semantics.ROWS,
    *_backend_rows_export.ROWS,
    *_backend_rows_distributed.ROWS,
]
