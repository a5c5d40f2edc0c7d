"""What a job will cost: rates measured on its own windows, and the forecast made of them."""
