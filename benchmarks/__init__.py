"""Benchmarks: what `tuner` is measured against, and how. See docs/benchmarks.md."""
