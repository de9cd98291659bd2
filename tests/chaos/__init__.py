"""Chaos: a real server, worker processes and producers, a seeded schedule of harm, and a judge.

`make chaos` runs it. In the order in which one may want to read it:

- `plan.py`: the schedule of harm, made from a seed, as data
- `harms.py`, `holds.py`, `administrator.py`: what each kind of harm does, and how it is undone
- `network.py`: the TCP proxy that can be cut, silent and slow
- `processes.py`, `handlers.py`, `producer.py`: the workers, what they run, and who enqueues
- `evidence.py`: what each process puts on record outside of eram, whatever becomes of it
- `database.py`: what is in the database before and after
- `run.py`: how a run goes; `__main__.py`: the command
- `history.py`: the record as a whole; `checker.py` judges it by the rules in `rules_of_*.py`
"""
