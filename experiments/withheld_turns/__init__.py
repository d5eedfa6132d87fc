"""What should become of a turn whose answer was withheld: kept, marked, or left out."""
