"""What was learnt: select, retrain, evaluate, report. Imports no ray."""
