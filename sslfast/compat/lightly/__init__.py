"""lightly's losses, transforms, heads and helpers (version 1.6), under its paths: `lightly.loss` is
`sslfast.compat.lightly.loss`, and so on.

Names that are not here stay imported from lightly; both work together.
"""
