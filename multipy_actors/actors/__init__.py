"""Actors, as the host and interpreters know them: made, decorated, called, read."""
