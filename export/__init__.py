"""Export scripts and their shared pieces; run from the checkout, never installed."""
