"""Code of the script, and others that cannot be imported where it arrives: it travels by value."""
