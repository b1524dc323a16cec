"""The reference as oracle: real runs made and aggregated with it, and comparisons with ours."""
