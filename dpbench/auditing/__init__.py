"""What `python -m dpbench.audit` is made of: canaries, a run that hides them, and its bounds."""
