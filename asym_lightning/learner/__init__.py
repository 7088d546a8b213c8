"""From groups to a gradient: data module, packing, attention, log-probs, policy and strategies."""
