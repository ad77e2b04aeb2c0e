"""What a compiled graph keeps of its dispatches: explain, counts and the log."""
