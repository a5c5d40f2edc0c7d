"""All that can be known of a job before anything is spent: one check an idea, one list of them, all faults at once."""
