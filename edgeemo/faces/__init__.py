"""Where the faces in a stream of frames are, and which of them is which."""
