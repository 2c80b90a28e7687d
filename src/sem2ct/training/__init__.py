"""The order of events in a training, the same for both models."""
