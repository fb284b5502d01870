"""What runs inside interpreters. The host never imports `serve` and `operations`."""
