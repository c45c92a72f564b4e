"""What this machine can sense with: asked of the system, of fresh processes, and of installed packages."""
