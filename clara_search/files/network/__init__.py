"""Other machines: which are reached and with whose credentials, by HTTP and through the stores of fsspec."""
