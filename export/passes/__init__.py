"""Rewrites of a bound graph that keep its answers: one pass a file, run in order by `pipeline`."""
