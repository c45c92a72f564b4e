"""JSON Schemas of everything that edgeemo prints, keeps or serves as JSON."""
