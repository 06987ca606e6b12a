"""Accelerators, CPUs and hosts."""
