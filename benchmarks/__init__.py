"""Programs that measure and print what they measured; run as `python -m benchmarks`."""
