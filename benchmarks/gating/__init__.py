"""What leaving out data that cannot be trusted changes in accuracy, sense by sense."""
