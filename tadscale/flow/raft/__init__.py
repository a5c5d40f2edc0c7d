"""RAFT: the network, and flow from its weights."""
