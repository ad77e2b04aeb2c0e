"""The nodes around the calls of dispatched ops that their branches take in."""
