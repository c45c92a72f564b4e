"""From pushed data to windows of features: one stream for each kind of front-end."""
