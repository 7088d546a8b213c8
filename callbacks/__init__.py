"""When each thing happens in a Lightning run."""
