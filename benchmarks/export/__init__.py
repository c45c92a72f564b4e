"""The exporter against what one gets by hand, and against what the machine can do at all."""
