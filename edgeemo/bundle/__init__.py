"""The bundle format: what ships, read and written in one place."""
