"""Folders of recordings scored on many processors or machines."""
