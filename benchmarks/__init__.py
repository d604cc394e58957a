"""What things cost, as ratios within one run. Nothing here is asserted by a test."""
