"""What clients do over time: counters, detectors, and one incident for each thing that is found."""
