"""Front-ends: samples, frames and words to what the stems take."""
