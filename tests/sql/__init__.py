"""Tests of the extension by itself: SQL on a real server. They mirror extension/."""
