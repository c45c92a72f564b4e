"""What a running session costs: over a bare engine, and as a whole with a camera and a microphone."""
