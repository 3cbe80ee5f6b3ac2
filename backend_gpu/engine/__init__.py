"""Machines that make pictures."""
