"""A vision transformer over clips of 16 frames: `backbone` is the trunk, `adapter` what is trained in it, `positions` where
its tokens are."""
