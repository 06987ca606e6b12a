"""Vatio itself."""
