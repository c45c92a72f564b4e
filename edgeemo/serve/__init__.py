"""One session on a page and behind an address: FastAPI, a WebSocket, Prometheus.

Nothing is loaded here: `edgeemo.serve.server` is where an application begins, and it needs the extra
``serve``.
"""
