"""How usable sound and pictures are, measured before anything is recognised in them."""
