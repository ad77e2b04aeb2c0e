"""The winner of each range, by timing, by stored times or as ranks agreed, and why."""
