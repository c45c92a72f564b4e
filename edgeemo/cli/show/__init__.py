"""What commands show: bundles, readings, progress; for people and as JSON."""
