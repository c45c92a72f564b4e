"""A session behind a page and a REST interface: for kiosks, dashboards and other programs."""
