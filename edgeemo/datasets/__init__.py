"""Readers for the folder layouts of public emotion data."""
