"""What a name stands for: how an entry is written, its options, and what installed packages add."""
