"""Pure arithmetic: base units in and out, the unit in the name, ``None`` for unknown. No clock, no I/O."""
