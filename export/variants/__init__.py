"""The four variants of a graph, one kind of device each."""
