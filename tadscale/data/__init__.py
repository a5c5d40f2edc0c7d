"""The data plane on one process: shards, manifest, plan, decoding, windows, quarantine."""
