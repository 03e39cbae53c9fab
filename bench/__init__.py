"""Benchmarks: one pytest-benchmark suite of the primitives, and paired comparisons with other engines as scripts.

Scripts write what they measured to results/, raw, with the machine and the commit. Nothing here is part of the package.
"""
