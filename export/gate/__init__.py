"""Nothing ships that gives other answers than the trained network: who judges, and by what."""
