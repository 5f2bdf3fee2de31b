"""Geodesics, exponentials and means that have no closed form."""
