"""Prompts that are put better before they are used: rules for each client, and a model that goes by them.

The settings hold the rules, so this package imports nothing by itself.
"""
