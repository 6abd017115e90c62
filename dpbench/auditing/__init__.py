"""Audits: runs with canaries, and lower bounds on epsilon from what they show."""
