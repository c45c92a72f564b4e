"""Opens engines on the backends of this machine."""
