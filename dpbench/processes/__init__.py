"""Worker processes, how they died, and signal handlers."""
