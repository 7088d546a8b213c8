"""From prompts to verified groups: engines, servers, and the weights on their way to them."""
