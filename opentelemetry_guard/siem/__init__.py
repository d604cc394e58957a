"""Security events in other people's words: OCSF, ECS and CEF, as pure functions of a row.

Each format is a module with its tables as data; `formats` names them all.
"""
