"""The nodes of a Ray cluster that a command works on: whether they are fit for it, and what is waited for."""
