"""A served session under load: hundreds of live sockets, some of them slow and some that never read."""
