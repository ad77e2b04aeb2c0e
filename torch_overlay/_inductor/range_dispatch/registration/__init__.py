"""What the user registered for an op: checked when it is registered, then frozen."""
