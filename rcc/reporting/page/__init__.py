"""Draw report.html: one file that asks nothing of a network, with a table behind every plot."""
