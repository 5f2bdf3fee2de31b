"""Simulators and fields whose dynamics or forecasts are known exactly."""
