"""State behind the pages: settings, visitor sessions, models, calibrations, policies and queues."""
