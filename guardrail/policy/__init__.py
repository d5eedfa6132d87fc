"""YAML to a Policy, a Policy and what is known of an answer to a Decision."""
