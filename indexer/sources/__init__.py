"""Sources: folders, manifests, shards and arrays to items."""
