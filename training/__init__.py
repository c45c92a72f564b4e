"""Networks, low-rank adaptation and training loops (PyTorch) that write checkpoints."""
