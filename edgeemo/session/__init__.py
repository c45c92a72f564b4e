"""The session: windows, states, subset choice, readings."""
