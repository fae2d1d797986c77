"""What the endpoints take and give, as the documentation shows it."""
