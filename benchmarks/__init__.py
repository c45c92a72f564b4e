"""Every figure that the README shows, reproducible by one command: ``python -m benchmarks``."""
