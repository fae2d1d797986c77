"""What every HTTP service shares: errors, authentication, health, request context, serving."""
