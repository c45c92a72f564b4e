"""Hours of recorded sound, pictures and words through one session on a virtual clock."""
