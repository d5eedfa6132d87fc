"""Policies: from YAML to a Policy, and from evidence about an answer to a Decision."""
