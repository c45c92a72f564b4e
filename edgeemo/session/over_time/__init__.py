"""What one hop alone cannot say: emotion and mood over time, agreement, and what has changed."""
