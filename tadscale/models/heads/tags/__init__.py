"""TAGS (Nag, Zhu, Song, Xiang, ECCV 2022): proposal-free, every snippet has a class and a mask over the whole window.
`network` is what is trained and exported, `objective` how it is taught."""
