"""Benchmark suites of scripts/benchmark.py."""
