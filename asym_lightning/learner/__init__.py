"""From groups to a gradient: data module, packing, attention, log-probs, the policy and its strategies."""
