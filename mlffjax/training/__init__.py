"""Force matching: loss, optimizer, the training loop and its state."""
