"""Judges that read stories: a language model behind an endpoint, and a small one that learned what is damaged."""
