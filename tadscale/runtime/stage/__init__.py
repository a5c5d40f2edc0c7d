"""What a run is: its settings, what one stage is asked and what it gives back."""
