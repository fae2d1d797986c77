"""Logs that are facts, and every metric declared once."""
