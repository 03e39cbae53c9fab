"""The reference backend: every primitive in plain NumPy, written to be read.

It is the specification of the other backends, their fallback and their oracle. One module for each functional.
"""
