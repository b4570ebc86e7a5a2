"""The GitHub Action: one step of a workflow takes one event, drives one issue's run as far as it goes, and ends."""
