"""The page: Japanese in, pictures out."""
