"""Engines: what trains one network on one backend, behind one small interface."""
