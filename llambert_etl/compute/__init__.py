"""Devices and their arithmetic, and batches that fill them."""
