"""The seven emotions that all corpora are mapped to."""

LABELS = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")
"""In the order of every label index and probability vector of the readers."""
