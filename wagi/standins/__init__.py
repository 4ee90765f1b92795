"""Stand-in networks for rendered portraits: trained here, never mistaken for the public ones."""
