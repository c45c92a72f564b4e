"""What accelerators give, where there are any; rows that could not run say why."""
