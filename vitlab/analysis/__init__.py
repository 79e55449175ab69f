"""From finished trials to a conclusion with an interval: selection, curves, crossover, fairness and the report.

No torch here: `vitlab report` answers in seconds. Import what is needed from the module that holds it.
"""
