"""Coffer's figures beside those of its peers: trees, tools, measurements, report."""
