"""The ledger: which items are indexed, and which failed."""
