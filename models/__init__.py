"""The networks that ship with the pack."""
