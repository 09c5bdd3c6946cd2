"""Models over HTTP: OpenAI's completions, and a page to play on."""
