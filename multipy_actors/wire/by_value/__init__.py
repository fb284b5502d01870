"""Code that cannot be imported where it arrives, the script's above all: it travels by value."""
