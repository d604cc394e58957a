"""What this process is and how it ends: signals, children, and the one deadline for all that is held."""
