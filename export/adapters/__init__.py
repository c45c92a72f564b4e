"""Low-rank adapters: read as PEFT writes them, merged exactly, or left beside the base to judge by."""
