"""The networks of the papers, with their published parameter names."""
