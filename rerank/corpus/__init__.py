"""What training and eval draw on: captions, prompts, lyrics, and ways to damage music."""
