"""The comparison of methods on CMU-MOSI: one command trains what is missing and writes the tables."""
