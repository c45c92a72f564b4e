"""The engines of a session: opened, kept warm, exchanged between two hops."""
