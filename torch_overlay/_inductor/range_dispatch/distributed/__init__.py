"""What ranks agree on, and what they time together."""
