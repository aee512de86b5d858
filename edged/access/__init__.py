"""Who may do what over the sockets: the decision, and what stands before the dataplane."""
