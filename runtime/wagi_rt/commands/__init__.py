"""The commands of `wagi-rt`, imported by the command line when they are called."""
