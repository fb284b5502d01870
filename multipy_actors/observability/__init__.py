"""What the host sees of its interpreters."""
