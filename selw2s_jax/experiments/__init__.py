"""What a paper's run consists of, what it reads, and everything that is checked before device work."""
