"""Plain numbers: ranges of sizes, cells of grids, decision trees, and what a search
measures next. Nothing here knows torch."""
