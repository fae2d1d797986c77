"""Scheduled work: folding deltas into rollups, partitions ahead, retention."""
