"""Where an answer goes that is not the model's to give: a stronger model, or a person's queue."""
