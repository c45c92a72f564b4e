"""New adapters for an installed bundle, without torch."""
