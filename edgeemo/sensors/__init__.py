"""Sources of samples: microphone, camera, media file, text."""
