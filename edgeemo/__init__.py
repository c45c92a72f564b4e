"""edgeemo: emotion recognition on the device that keeps working when sensors fail."""
