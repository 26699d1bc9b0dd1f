"""Sagas: what undoes a finished step when its run fails."""
