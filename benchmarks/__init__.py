"""One script for each table; run them as modules: ``python -m benchmarks.speed``."""
