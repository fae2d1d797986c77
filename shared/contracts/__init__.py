"""Shapes that cross a process: request events, the queue envelope, JSON with exact amounts."""
