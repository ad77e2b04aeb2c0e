"""What runs in a worker process: the checks themselves, beside the torch to check."""
