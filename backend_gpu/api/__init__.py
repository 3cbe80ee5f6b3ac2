"""The HTTP faces of the queue: our own, and OpenAI's Images."""
