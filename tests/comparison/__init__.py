"""The C epmd and ours, fed the same: what `scripts/compare` runs."""
