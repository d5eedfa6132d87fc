"""What pages share: settings, the visitor's session, models, calibrations, policies and queues."""
