"""`wagi-rt bulk`: the work of `invert` and `edit` on many processes and machines, by Ray."""
