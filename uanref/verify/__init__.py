"""What can be verified: gradients of everything, a device against the host, ports against vectors; and what is here."""
