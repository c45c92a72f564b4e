"""Augmentation in numpy, the same for stems and trunk."""
