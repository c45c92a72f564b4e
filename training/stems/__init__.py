"""Stem networks: front-end features of one modality to a feature sequence."""
