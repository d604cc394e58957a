"""What agents send: the contract, the bounds of a body, rates, and patience with slow senders."""
