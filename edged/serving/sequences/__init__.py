"""Models that keep state: whose turn it is, what is kept, and who is given up for another."""
