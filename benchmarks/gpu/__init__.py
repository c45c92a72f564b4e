"""What accelerators give, where there are any; what could not run says why, row by row."""
