"""Every setting, declared once: its name, type, bounds, default and meaning, and who may set it.

Keyword arguments win over environment variables, those over settings that
arrive late (`settings.late`), those over the defaults. Nothing is imported
here: `opentelemetry-instrument` loads `settings.environment_variables` at each start.
"""
