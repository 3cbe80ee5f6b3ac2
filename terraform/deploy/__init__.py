"""`make deploy` and `make destroy`: the whole cloud set-up with one command. Needs Python and its library alone."""
