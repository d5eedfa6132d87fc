"""Ways of telling right from wrong answers, each by its name and with its paper."""
