"""What a student says of a user's own questions."""
