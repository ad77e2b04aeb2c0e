"""A winner and the reason for it in every range of a call."""
