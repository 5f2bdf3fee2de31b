"""The engine: particles, moves, their adaptation, resampling, schedules and estimators."""
