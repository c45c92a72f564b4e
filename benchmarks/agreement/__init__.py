"""Which evidence tells modalities that contradict each other from those that agree, and what it costs."""
