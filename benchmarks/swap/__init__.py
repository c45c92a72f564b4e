"""An engine for each subset against late fusion and one masked model: accuracy, cost, and the swap."""
