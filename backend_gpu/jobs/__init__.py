"""The durable queue: jobs, their store, the worker that runs them."""
