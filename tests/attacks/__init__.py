"""Attacks: what a hostile role, a hostile value or an odd session can do, which is nothing."""
