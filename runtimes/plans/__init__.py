"""TensorRT plans: built from a bundle, kept by everything they depend on, opened again."""
