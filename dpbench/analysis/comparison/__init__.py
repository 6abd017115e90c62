"""What `python -m dpbench.compare` is made of: differences, and which of them are changes."""
