"""Slow and obvious PyTorch versions of the ops: the tests' oracle and the benchmarks' baseline."""
