"""Reference data: frames, readers, baselines, splits, reports, batches."""
