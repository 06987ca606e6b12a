"""What can be measured, in which unit, under which name. Imports nothing of Vatio's."""

VERSION = "0.1.0"
