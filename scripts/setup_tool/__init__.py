"""What scripts/setup, scripts/test and scripts/run share. Standard library only.

Imports go one way:
interpreter -> commands -> (testing, groups) -> environment -> (pins, steps).
"""
