"""The networks of the table."""
