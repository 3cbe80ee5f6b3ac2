"""OpenAI's Images API over the same queue."""
