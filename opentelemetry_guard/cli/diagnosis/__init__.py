"""What ``opentelemetry-guard doctor`` checks, a module for each kind of cause."""
