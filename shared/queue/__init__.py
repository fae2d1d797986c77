"""The reliable Redis list: produce, claim, acknowledge, reclaim."""
