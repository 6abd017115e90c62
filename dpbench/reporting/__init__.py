"""Reports: findings, figures, the page, and the text of answers and caveats."""
