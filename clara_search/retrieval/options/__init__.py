"""Search options: filters of rows and of hits, one file an option."""
