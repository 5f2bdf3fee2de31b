"""Metrics that decoders and data induce."""
