"""The embedded model: a small GLIDE that draws the concepts of concepts.tsv."""
