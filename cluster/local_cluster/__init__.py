"""What `cluster/local.py` is made of: processes that a later command can end, and Ray nodes on 127.0.0.1."""
