"""The speech half of a model: pronunciation rules, phone recognition, the bigram projection."""
