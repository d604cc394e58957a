"""From rows to an accepted request: encoding, the sender, and what every answer means."""
