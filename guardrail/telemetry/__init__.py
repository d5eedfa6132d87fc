"""Spans, metrics and events of what a guard does, by the API of OpenTelemetry (extra ``telemetry``).

Nothing of OpenTelemetry is imported before an app has imported it: until then there can be no provider that
anything could be recorded by.
"""
