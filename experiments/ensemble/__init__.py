"""What a confidence should be made of: candidates compared on answers that they were not fitted on."""
