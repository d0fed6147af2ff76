"""A run as a stream of events with a memory: made, scored, stored, stopped, gone on with, opened and ranked again."""
