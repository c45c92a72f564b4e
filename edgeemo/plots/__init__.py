"""Pictures of readings over time."""
