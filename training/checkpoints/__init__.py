"""Writes a network as a checkpoint folder, and reads one back into PyTorch."""
