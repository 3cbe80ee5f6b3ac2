"""What a visit of the page remembers."""
