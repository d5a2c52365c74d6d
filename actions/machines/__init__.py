"""Machines: the contract of their drivers, and a module for each driver."""
