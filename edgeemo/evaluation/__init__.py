"""Measures a bundle on labelled data."""
