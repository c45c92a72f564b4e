"""Turns a checkpoint into a bundle of engines, one for every subset of modalities. Needs no torch."""
