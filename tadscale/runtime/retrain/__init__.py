"""Retraining that thinks: one tick looks at what is new since the champion, and trains, or says why not."""
