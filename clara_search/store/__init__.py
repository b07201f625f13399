"""LanceDB tables of embeddings."""
